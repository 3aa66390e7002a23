"""Where a run goes wrong and how far its confidence can be trusted: confusions and reliability, as tidy CSV.

They are taken where the logits are at hand, so that the report need not read them again. Both pool all seeds.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from features.formats.files import atomic_folder

BINS = 15  # of confidence, equally wide (Guo et al. 2017, section 2)
CONFUSION = ("eval_split", "class", "predicted", "images")
RELIABILITY = ("eval_split", "bin", "images", "confidence", "accuracy")


@dataclass(frozen=True)
class Scored:
    """A eval_split as one seed scored it.

    Attributes:
        logits: (N, M), a column a candidate class. labels: (N,) int64, positions among the M candidates.
        names: M class names.
    """

    logits: Tensor
    labels: Tensor
    names: Sequence[str]


def confusion(logits: Tensor, labels: Tensor) -> Tensor:
    """(M, M) int64: images by their class (row) and the class of the highest of logits (N, M) (column)."""
    m = logits.shape[1]
    return torch.bincount(labels * m + logits.argmax(1), minlength=m * m).reshape(m, m)


def reliability(logits: Tensor, labels: Tensor, bins: int = BINS) -> list[tuple[int, int, float, float]]:
    """Bin, images, mean confidence and accuracy (percent) of every bin that holds an image (Guo et al. 2017, Eq. 2).

    Confidence is the highest softmax of logits (N, M). Bin b of B, from 0, is (b/B, (b+1)/B].
    """
    confidence, predicted = logits.double().softmax(1).max(1)
    bin_of = (torch.ceil(confidence * bins) - 1).clamp(0, bins - 1).long()
    rows = []
    for b in sorted(set(bin_of.tolist())):
        inside = bin_of == b
        right = (predicted == labels)[inside].double().mean()
        rows.append((b, int(inside.sum()), 100 * float(confidence[inside].mean()), 100 * float(right)))
    return rows


def write_diagnostics(out: Path, judged: Mapping[str, Sequence[Scored]], fitted: Path) -> None:
    """Write `confusion.csv` and `reliability.csv` of a run into the folder `out`; `judged` holds a eval_split's seeds.

    What fitting kept in the folder `fitted` is put beside them: see `keep_logs`.
    """
    confusions: list[tuple[object, ...]] = []
    reliabilities: list[tuple[object, ...]] = []
    for name, seeds in judged.items():
        counts = torch.stack([confusion(seed.logits, seed.labels) for seed in seeds]).sum(0).numpy()
        names = seeds[0].names
        confusions += [(name, names[i], names[j], counts[i, j]) for i, j in np.argwhere(counts)]
        logits, labels = torch.cat([seed.logits for seed in seeds]), torch.cat([seed.labels for seed in seeds])
        reliabilities += [(name, b, n, round(c, 4), round(a, 4)) for b, n, c, a in reliability(logits, labels)]
    with atomic_folder(out) as part:
        _write(part / "confusion.csv", CONFUSION, confusions)
        _write(part / "reliability.csv", RELIABILITY, reliabilities)
        keep_logs(fitted, part)


def keep_logs(fitted: Path, out: Path) -> None:
    """Copy what a fit keeps to look at, where it has it: its training log and the words nearest to its prompts."""
    for name, kept in {"log.csv": "training.csv", "words.csv": "words.csv"}.items():
        if (fitted / name).is_file():
            shutil.copyfile(fitted / name, out / kept)


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
