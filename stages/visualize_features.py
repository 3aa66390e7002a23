"""Stage `visualize_features`: real and synthetic features of unseen classes -> both in two dimensions.

The generator's training log is copied beside them, so that the report depends on one folder that every grid has.
"""

from __future__ import annotations

from stages.running import run
from pipeline.artifacts.paths import EncoderPaths
from pipeline.artifacts.task import load_task, load_test
from pipeline.config.params import load
from pipeline.steps.visualize_features import visualize_features
from stages.options import Dataset, GeneratorName, Task


def main(dataset: Dataset, task: Task, generator: GeneratorName) -> None:
    """Write `artifacts/<encoder>/diagnostics/<dataset>/<task>/generator=<generator>/`, for the first seed."""
    params = load()
    cell = EncoderPaths(params.artifacts).cell(dataset, task)
    _, eval_splits = load_test(cell.test)

    visualize_features(
        load_task(cell),
        eval_splits,
        synthetic=cell.synthetic(generator),
        fitted=cell.generator(generator),
        seed=params.grid.seeds[0],
        settings=params.visualization,
        out=cell.generator_diagnostics(generator),
    )


if __name__ == "__main__":
    run(main)
