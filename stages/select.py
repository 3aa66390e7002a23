"""Stage `select`: logits of validation images -> the offset of each run, and which run to use for new images."""

from __future__ import annotations

from stages.running import run
from pipeline.artifacts.paths import EncoderPaths
from pipeline.artifacts.scores import grid_runs
from pipeline.config.params import load
from pipeline.steps.select import select
from stages.options import Dataset, Task


def main(dataset: Dataset, task: Task) -> None:
    """Write `artifacts/<encoder>/selection/<dataset>/<task>.json`."""
    params = load()
    runs = [cell.run for cell in grid_runs(params) if (cell.dataset, cell.task) == (dataset, task)]
    cell = EncoderPaths(params.artifacts).cell(dataset, task)
    select(cell, runs, seeds=params.grid.seeds, balance=params.grid.balance)


if __name__ == "__main__":
    run(main)
