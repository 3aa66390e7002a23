"""`python -m benchmarks.calibration NAME`: calibration of the probabilities on a task of your own images.

Predicts the task's test images, on which nothing was fitted, as `shipyard predict` does, with each run that was
calibrated by `select`. Prints the accuracy and the expected calibration error (Guo et al. 2017, Eq. 5; in
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
from features.index import read_names
from features.index_table import read_index
from features.runtime.commandline import run_app
from pipeline.artifacts import paths
from pipeline.artifacts.balanced_scores import ReliabilityBin
from pipeline.artifacts.selection import read_selection
from pipeline.config.params import Params, load
from pipeline.inference.predict import open_model, predict
from pipeline.metrics.diagnostics import reliability
from pipeline.report.diagnostics_data import calibration_error

HEAD = ("run", "images", "number", "accuracy", "ECE calibrated", "ECE as it was", "temperature")


def ece(logits: Tensor, labels: Tensor) -> float:
    """Return the expected calibration error, in points, of logits (N, C) for labels (N,)."""
    bins = reliability(logits, labels)
    return calibration_error(
        [ReliabilityBin(eval_split="", images=n, confidence=confidence, accuracy=a) for _, n, confidence, a in bins]
    )


def lines(params: Params, name: str) -> Iterator[tuple[str, ...]]:
    """Yield a line for each run and for its test images of seen, unseen and all classes."""
    index, names = read_index(paths.index(name)), read_names(paths.names(name)).classes
    folder = reader_from(params.data.sets[name], name).folder(Path(params.data.root))
    rows = index.rows("test")
    files = [str(folder / index.paths[row]) for row in rows]
    for candidate in read_selection(paths.EncoderPaths(params.artifacts).cell(name, name).selection).runs:
        if candidate.temperature is None:
            continue
        model = open_model(params, name, run=candidate.run)
        predictions = predict(model, files, len(names))
        probabilities = [dict(zip(one.classes, one.probabilities, strict=True)) for one in predictions]
        logits = torch.tensor([[image[name] for name in model.names] for image in probabilities]).double().log()
        labels = torch.tensor([model.names.index(names[index.class_ids[row]]) for row in rows])

        seen = torch.tensor(model.seen)[labels]
        for which, mask in (("seen", seen), ("unseen", ~seen), ("all", seen | ~seen)):
            if not mask.any() or (which == "all" and seen.all()):
                continue
            calibrated, correct = logits[mask], labels[mask]
            accuracy = 100 * float((calibrated.argmax(1) == correct).double().mean())
            uncalibrated = calibrated * candidate.temperature
            numbers = (accuracy, ece(calibrated, correct), ece(uncalibrated, correct))
            cells = (f"{number:.2f}" for number in numbers)
            yield candidate.run, which, str(len(correct)), *cells, f"{candidate.temperature:.4g}"


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
