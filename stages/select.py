"""Stage `select`: fitted classifiers and validation -> which run to use for new images, and how sure that is."""

from __future__ import annotations

import pipeline.methods
from features.lookup import find
from pipeline.choosing import choose
from pipeline.methods.base import Method
from pipeline.params import load
from pipeline.paths import EncoderPaths
from pipeline.scores import grid_runs
from stages.opening import device_of, tower_on
from stages.running import Dataset, Task, run


def main(dataset: Dataset, task: Task) -> None:
    """Write `artifacts/<encoder>/chosen/<dataset>/<task>.json`."""
    params = load()
    device = device_of(params)
    cells = [one for one in grid_runs(params) if (one.dataset, one.task) == (dataset, task)]
    reading = any(find(pipeline.methods, one.method, Method).scores_with_text_tower for one in cells)
    choose(
        EncoderPaths(params.artifacts).cell(dataset, task),
        cells,
        seeds=params.grid.seeds,
        tower=tower_on(params, device) if reading else None,
        device=device,
    )


if __name__ == "__main__":
    run(main)
