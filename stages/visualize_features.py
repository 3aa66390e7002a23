"""Stage `visualize_features`: real and synthetic features of unseen classes -> both in two dimensions, to look at.

The generator's training log is put beside them, so that the report depends on one folder that every grid has.
"""

from __future__ import annotations

from stages.running import run
from pipeline.artifacts.paths import EncoderPaths
from pipeline.artifacts.task import load_task, load_test
from pipeline.config.params import load
from pipeline.steps.visualize_features import points, write_diagnostics
from stages.options import Dataset, GeneratorName, Task


def main(dataset: Dataset, task: Task, generator: GeneratorName) -> None:
    """Write `artifacts/<encoder>/diagnostics/<dataset>/<task>/generator=<generator>/`, of the first seed."""
    params = load()
    cell, settings = EncoderPaths(params.artifacts).cell(dataset, task), params.visualization
    eval_splits = load_test(cell.test)[1]
    found = points(load_task(cell), eval_splits, cell.synthetic(generator), params.grid.seeds[0], settings)
    write_diagnostics(found, settings.methods, cell.generator(generator), cell.generator_diagnostics(generator))


if __name__ == "__main__":
    run(main)
