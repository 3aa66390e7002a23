"""Stage `train_generator`: real features of seen classes -> one fitted generator per seed."""

from __future__ import annotations

import pipeline.generators
from stages.running import run
from features.lookup import find
from features.settings import parse
from pipeline.artifacts.paths import EncoderPaths
from pipeline.artifacts.task import load_train
from pipeline.config.params import load
from pipeline.generators.base import Generator
from pipeline.steps.train_generator import train_generator
from stages.opening import compute_device, load_text_tower
from stages.options import Dataset, GeneratorName, Task


def main(dataset: Dataset, task: Task, generator: GeneratorName) -> None:
    """Write `artifacts/<encoder>/generators/<dataset>/<task>/<generator>/`."""
    params = load()
    cell = EncoderPaths(params.artifacts).cell(dataset, task)
    device = compute_device(params)

    # `train.h5` alone: what is learned must not depend on the names of unseen classes.
    train_task = load_train(cell.train)
    values = params.block("generators", generator, train_task.header.trained_on)

    train_generator(
        parse(find(pipeline.generators, generator, Generator), *values),
        train_task,
        seeds=params.grid.seeds,
        tower=load_text_tower(params, device),
        device=device,
        out=cell.generator(generator),
    )


if __name__ == "__main__":
    run(main)
