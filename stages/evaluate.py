"""Stages `evaluate` and `evaluate_synthetic`: classifiers and evaluation splits -> scores, logits, diagnostics."""

from __future__ import annotations

import pipeline.methods
from stages.running import run
from features.lookup import find
from pipeline.artifacts.paths import EncoderPaths
from pipeline.config.params import load
from pipeline.methods.base import Method
from pipeline.steps.evaluate import evaluate
from stages.opening import compute_device, load_text_tower
from stages.options import Dataset, MethodName, OptionalGenerator, Task


def main(dataset: Dataset, task: Task, method: MethodName, generator: OptionalGenerator = None) -> None:
    """Write `scores/…/<run>.json`, `logits/…/<run>.h5` and `diagnostics/…/<run>/` under `artifacts/<encoder>/`."""
    params = load()
    device = compute_device(params)
    method_class = find(pipeline.methods, method, Method)

    evaluate(
        method_class,
        name=method,
        generator=generator,
        seeds=params.grid.seeds,
        tower=load_text_tower(params, device) if method_class.scores_with_text_tower else None,
        device=device,
        cell=EncoderPaths(params.artifacts).cell(dataset, task),
    )


if __name__ == "__main__":
    run(main)
