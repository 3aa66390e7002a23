"""Confusions, reliability and the seen-unseen curve of a run, as tidy CSV files that pool all seeds.

They are computed by `evaluate`, which has the logits at hand, so that the report need not read them again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from features.formats.csv_cells import write_rows
from features.formats.files import atomic_folder
from features.formats.seal import check_listed
from pipeline.metrics.balance import Margins

BINS = 15  # equally wide bins of confidence (Guo et al. 2017, section 2)
CONFUSION = ("eval_split", "class", "predicted", "images")
RELIABILITY = ("eval_split", "bin", "images", "confidence", "accuracy")
CURVE = ("offset", "seen", "unseen")
CURVE_POINTS = 101


@dataclass(frozen=True)
class SplitLogits:
    """Logits of one seed on an evaluation split.

    Attributes:
        logits: (N, M), a column per candidate class.
        labels: (N,) int64, positions among the M candidates.
        names: M class names.
    """

    logits: Tensor
    labels: Tensor
    names: Sequence[str]


def confusion(logits: Tensor, labels: Tensor) -> Tensor:
    """Count images by their class (row) and by the class of their highest logit (column).

    Args:
        logits: (N, M).
        labels: (N,) int64, positions among the M candidates.

    Returns:
        (M, M) int64.
    """
    m = logits.shape[1]
    cell = labels * m + logits.argmax(1)  # row-major index into the (M, M) matrix
    return torch.bincount(cell, minlength=m * m).reshape(m, m)


def reliability(logits: Tensor, labels: Tensor, bins: int = BINS) -> list[tuple[int, int, float, float]]:
    """Compare confidence with accuracy in bins of confidence (Guo et al. 2017, Eq. 2).

    Confidence is the highest softmax of logits (N, M). Bin b of B, counted from 0, is (b/B, (b+1)/B].

    Returns:
        Bin, number of images, mean confidence and accuracy (both in percent) of every bin that holds an image.
    """
    confidence, predicted = logits.double().softmax(1).max(1)
    bin_of = (torch.ceil(confidence * bins) - 1).clamp(0, bins - 1).long()

    rows = []
    for b in sorted(set(bin_of.tolist())):
        inside = bin_of == b
        accuracy = (predicted == labels)[inside].double().mean()
        rows.append((b, int(inside.sum()), 100 * float(confidence[inside].mean()), 100 * float(accuracy)))
    return rows


def curve_points(seeds: Sequence[Margins], points: int = CURVE_POINTS) -> list[tuple[float, float, float]]:
    """Return offset, seen and unseen accuracy at some offsets, as means over seeds; offset 0 is one of them.

    The offsets divide the images' margins into equal parts, so that the points lie where the accuracies change.
    """
    margins = np.concatenate([seed.margin for seed in seeds]).astype(np.float64)
    # Beyond the outermost margins every image is given to one group.
    offsets = np.quantile(margins, np.linspace(0, 1, points - 2))
    offsets = np.concatenate([[margins.min() - 1, 0.0], offsets, [margins.max() + 1]])
    offsets = np.unique(offsets.round(4) + 0.0)  # as they are written, so that one point alone is at 0, and not at -0
    accuracies = np.array([[seed.accuracies(offset) for seed in seeds] for offset in offsets]).mean(1)
    return [
        (float(offset), float(seen), float(unseen)) for offset, (seen, unseen) in zip(offsets, accuracies, strict=True)
    ]


def write_diagnostics(
    out: Path, splits: Mapping[str, Sequence[SplitLogits]], fitted: Path, margins: Sequence[Margins] = ()
) -> None:
    """Write `confusion.csv`, `reliability.csv`, `curve.csv` and the logs of a fit into the folder `out`.

    Args:
        out: the folder to write.
        splits: the logits of every seed, by evaluation split.
        fitted: the folder of the fit, from which `keep_logs` copies.
        margins: the margins of every seed, for `curve.csv`; without any there is no such file.
    """
    confusions: list[tuple[object, ...]] = []
    reliabilities: list[tuple[object, ...]] = []
    for split, seeds in splits.items():
        counts = torch.stack([confusion(seed.logits, seed.labels) for seed in seeds]).sum(0).numpy()
        names = seeds[0].names
        confusions += [(split, names[i], names[j], counts[i, j]) for i, j in np.argwhere(counts)]

        logits = torch.cat([seed.logits for seed in seeds])
        labels = torch.cat([seed.labels for seed in seeds])
        for b, images, confidence, accuracy in reliability(logits, labels):
            # Rounded, because further digits differ by machine.
            reliabilities.append((split, b, images, round(confidence, 4), round(accuracy, 4)))

    with atomic_folder(out) as part:
        _write_csv(part / "confusion.csv", CONFUSION, confusions)
        _write_csv(part / "reliability.csv", RELIABILITY, reliabilities)
        if margins and margins[0].has_both_groups:
            points = [[round(value, 4) for value in point] for point in curve_points(margins)]
            _write_csv(part / "curve.csv", CURVE, points)
        keep_logs(fitted, part)


def keep_logs(fitted: Path, out: Path) -> None:
    """Copy a fit's training log, its searches and the words nearest to its prompts, if it has them, into `out`."""
    kept = {"log.csv": "training.csv", "searches.csv": "searches.csv", "words.csv": "words.csv"}
    for source, target in kept.items():
        if (fitted / source).is_file():
            check_listed(fitted / source)
            shutil.copyfile(fitted / source, out / target)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a header and rows as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        write_rows(file, [header, *rows])
