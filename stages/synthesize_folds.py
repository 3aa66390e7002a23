"""Stage `synthesize_folds`: a generator trained on each fold of the seen classes -> features of the other half."""

from __future__ import annotations

import pipeline.generators
from stages.running import run
from features.lookup import find
from features.settings import parse
from pipeline.artifacts.paths import EncoderPaths
from pipeline.artifacts.task import load_train
from pipeline.config.params import load
from pipeline.generators.base import Generator
from pipeline.steps.synthesize_folds import synthesize_folds
from stages.opening import compute_device, load_text_tower
from stages.options import Dataset, GeneratorName, Task


def main(dataset: Dataset, task: Task, generator: GeneratorName) -> None:
    """Write `artifacts/<encoder>/folds/<dataset>/<task>/<generator>/`."""
    params = load()
    cell = EncoderPaths(params.artifacts).cell(dataset, task)
    device = compute_device(params)

    # `train.h5` alone: neither the names of unseen classes nor validation images may influence the features.
    train_task = load_train(cell.train)
    values = params.block("generators", generator, train_task.header.trained_on)

    synthesize_folds(
        parse(find(pipeline.generators, generator, Generator), *values),
        train_task,
        seeds=params.grid.seeds,
        per_class=params.synthesis.per_class,
        tower=load_text_tower(params, device),
        device=device,
        out=cell.fold_features(generator),
    )


if __name__ == "__main__":
    run(main)
