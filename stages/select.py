"""Stage `select`: what every run got in a task's rehearsal -> which run to use for new images, and how sure that is."""

from __future__ import annotations

from stages.running import run
from pipeline.choosing import choose
from pipeline.params import load
from pipeline.paths import EncoderPaths
from pipeline.scoring.scores import grid_runs
from stages.options import Dataset, Task


def main(dataset: Dataset, task: Task) -> None:
    """Write `artifacts/<encoder>/chosen/<dataset>/<task>.json`."""
    params = load()
    runs = [cell.run for cell in grid_runs(params) if (cell.dataset, cell.task) == (dataset, task)]
    choose(EncoderPaths(params.artifacts).cell(dataset, task), runs, seeds=params.grid.seeds)


if __name__ == "__main__":
    run(main)
