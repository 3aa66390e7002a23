"""Stage `build_task`: write the training, validation, unseen and test files of a task on a data set."""

from __future__ import annotations

import pipeline.protocols
from stages.running import run
from features.lookup import find
from features.settings import parse
from pipeline.artifacts.paths import EncoderPaths
from pipeline.config.params import load
from pipeline.protocols.base import Protocol
from pipeline.steps.build_task import build_task, open_sources
from stages.options import Dataset, Task


def main(dataset: Dataset, task: Task) -> None:
    """Write `artifacts/<encoder>/tasks/<dataset>/<task>/`."""
    params = load()
    values, where = params.block("tasks", task, dataset)
    protocol = parse(find(pipeline.protocols, str(values.get("protocol")), Protocol), values, where)
    encoded = EncoderPaths(params.artifacts)
    build_task(
        protocol,
        dataset=dataset,
        task=task,
        sources=open_sources(protocol.datasets(dataset), encoded, verify=params.compute.verify),
        seeds=params.grid.seeds,
        cell=encoded.cell(dataset, task),
    )


if __name__ == "__main__":
    run(main)
