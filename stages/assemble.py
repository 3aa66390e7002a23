"""Stage `assemble`: a task on a data set -> what generators learn from, what else fitting may see, what judges."""

from __future__ import annotations

import pipeline.tasks
from stages.running import run
from features.lookup import find
from features.settings import parse
from pipeline.assembly import assemble, open_sources
from pipeline.params import load
from pipeline.paths import EncoderPaths
from pipeline.tasks.base import Protocol
from stages.options import Dataset, Task


def main(dataset: Dataset, task: Task) -> None:
    """Write `artifacts/<encoder>/tasks/<dataset>/<task>/`."""
    params = load()
    values, where = params.block("tasks", task)
    protocol = parse(find(pipeline.tasks, str(values.get("protocol")), Protocol), values, where)
    encoded = EncoderPaths(params.artifacts)
    assemble(
        protocol,
        dataset=dataset,
        task=task,
        sources=open_sources(protocol.datasets(dataset), encoded, verify=params.compute.verify),
        seeds=params.grid.seeds,
        cell=encoded.cell(dataset, task),
    )


if __name__ == "__main__":
    run(main)
