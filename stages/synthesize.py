"""Stage `synthesize`: fitted generators and names of unseen classes -> their features, one set per seed."""

from __future__ import annotations

import pipeline.generators
from stages.running import run
from features.lookup import find
from features.settings import parse
from pipeline.artifacts.paths import EncoderPaths
from pipeline.artifacts.task import load_task
from pipeline.config.params import load
from pipeline.generators.base import Generator
from pipeline.steps.synthesize import synthesize
from stages.opening import compute_device, load_text_tower
from stages.options import Dataset, GeneratorName, Task


def main(dataset: Dataset, task: Task, generator: GeneratorName) -> None:
    """Write `artifacts/<encoder>/synthetic/<dataset>/<task>/<generator>/`."""
    params = load()
    cell = EncoderPaths(params.artifacts).cell(dataset, task)
    device = compute_device(params)

    train_task = load_task(cell)
    values = params.block("generators", generator, train_task.header.trained_on)

    synthesize(
        parse(find(pipeline.generators, generator, Generator), *values),
        train_task,
        seeds=params.grid.seeds,
        per_class=params.synthesis.per_class,
        tower=load_text_tower(params, device),
        device=device,
        fitted=cell.generator(generator),
        out=cell.synthetic(generator),
    )


if __name__ == "__main__":
    run(main)
