"""Stage `select`: compare all runs on a task's validation proxy, and write which run to use for new images."""

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
    select(EncoderPaths(params.artifacts).cell(dataset, task), runs, seeds=params.grid.seeds)


if __name__ == "__main__":
    run(main)
