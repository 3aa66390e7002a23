"""`python -m benchmarks.calibration NAME`: calibration of the probabilities on a task of your own images.

Predicts the task's test images, on which nothing was fitted, as `shipyard predict` does, with each run that was
calibrated on the validation proxy. Prints the accuracy and the expected calibration error (Guo et al. 2017, Eq. 5; in
points, 15 bins) of the calibrated probabilities and of the uncalibrated ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from features.datasets.base import reader_from
from features.index import read_index, read_names
from features.runtime.commandline import run_app
from pipeline.artifacts import paths
from pipeline.artifacts.selection import read_selection
from pipeline.config.params import Params, load
from pipeline.inference.predict import open_model, predict
from pipeline.metrics.diagnostics import reliability
from pipeline.report.diagnostics_data import calibration_error

HEAD = ("run", "images", "number", "accuracy", "ECE calibrated", "ECE as it was", "temperature")


def ece(logits: Tensor, labels: Tensor) -> float:
    """Return the expected calibration error, in points, of logits (N, C) for labels (N,)."""
    return calibration_error([found[1:] for found in reliability(logits, labels)])


def lines(params: Params, name: str) -> Iterator[tuple[str, ...]]:
    """Yield a line for each run and for its test images of seen, unseen and all classes."""
    index, names = read_index(paths.index(name)), read_names(paths.names(name)).classes
    folder = reader_from(params.data.sets[name], name).folder(Path(params.data.root))
    rows = index.rows("test")
    files = [str(folder / index.paths[row]) for row in rows]
    for found in read_selection(paths.EncoderPaths(params.artifacts).cell(name, name).selection).runs:
        if found.temperature is None:
            continue
        model = open_model(params, name, run=found.run)
        said = [dict(zip(one.classes, one.probabilities, strict=True)) for one in predict(model, files, len(names))]
        logits = torch.tensor([[one[candidate] for candidate in model.names] for one in said]).double().log()
        labels = torch.tensor([model.names.index(names[index.class_ids[row]]) for row in rows])
        seen = torch.tensor(model.seen)[labels]
        for which, mask in (("seen", seen), ("unseen", ~seen), ("all", seen | ~seen)):
            if mask.any() and not (which == "all" and seen.all()):
                of, right = logits[mask], labels[mask]
                accuracy = 100 * float((of.argmax(1) == right).double().mean())
                numbers = (accuracy, ece(of, right), ece(of * found.temperature, right))
                yield found.run, which, str(len(of)), *(f"{x:.2f}" for x in numbers), f"{found.temperature:.4g}"


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows as a Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (HEAD, ("---",) * len(HEAD), *rows))


def main(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the task given to `shipyard task new`.")],
) -> None:
    """Print the table."""
    print(table(list(lines(load(), name))))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_app(app, "nothing was written; start again")
