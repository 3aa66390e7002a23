"""Stage `evaluate_balanced`: test logits and offsets of all runs of a task -> their seen and unseen accuracy."""

from __future__ import annotations

from stages.running import run
from pipeline.artifacts.paths import EncoderPaths
from pipeline.config.params import load
from pipeline.steps.evaluate_balanced import evaluate_balanced
from stages.options import Dataset, Task


def main(dataset: Dataset, task: Task) -> None:
    """Write `artifacts/<encoder>/scores/<dataset>/<task>/balanced.json`."""
    params = load()
    evaluate_balanced(EncoderPaths(params.artifacts).cell(dataset, task), seeds=params.grid.seeds)


if __name__ == "__main__":
    run(main)
