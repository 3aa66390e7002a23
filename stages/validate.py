"""Stages `validate` and `validate_synthetic`: classifiers and fits on folds -> logits of validation images."""

from __future__ import annotations

import pipeline.methods
from stages.running import run
from features.lookup import find
from features.settings import parse
from pipeline.artifacts.paths import EncoderPaths, run_name
from pipeline.artifacts.task import load_task, load_train
from pipeline.config.params import load
from pipeline.methods.base import Method
from pipeline.steps.validate import validate
from stages.opening import compute_device, load_text_tower
from stages.options import Dataset, MethodName, OptionalGenerator, Task


def main(dataset: Dataset, task: Task, method: MethodName, generator: OptionalGenerator = None) -> None:
    """Write `artifacts/<encoder>/validation/<dataset>/<task>/<method>[+<generator>]/`."""
    params = load()
    cell = EncoderPaths(params.artifacts).cell(dataset, task)
    device = compute_device(params)
    run = run_name(method, generator)

    train_task = load_task(cell)
    values = params.block("methods", method, train_task.header.trained_on)
    settings = parse(find(pipeline.methods, method, Method), *values)

    validate(
        settings,
        train_task,
        load_train(cell.validation),
        seeds=params.grid.seeds,
        tower=load_text_tower(params, device) if settings.uses_text_tower else None,
        fitted=cell.fitted(run),
        synthetic=cell.fold_features(generator) if generator else None,
        device=device,
        out=cell.validation_logits(run),
    )


if __name__ == "__main__":
    run(main)
