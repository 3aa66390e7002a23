"""The balance between seen and unseen classes: accuracies over an offset of the seen classes' logits, and their area.

A classifier that was fitted to images of the seen classes prefers them. Calibrated stacking (Chao et al. 2016)
subtracts an offset g from the logits of all seen classes. The seen accuracy S(g) falls with g and the unseen accuracy
U(g) rises. AUSUC, of the same paper, is the area under the curve of S over U. It judges a classifier without choosing
g.

Two numbers of an image decide everything: how far its best seen class is above its best unseen one, and whether the
best class of its own group is its label. Both accuracies are means over classes, in percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Margins:
    """What decides between seen and unseen classes, of N images that are classified among both.

    Attributes:
        margin: (N,) float32, the highest logit of a seen class minus the highest of an unseen class; infinite without
            unseen candidates.
        correct: (N,) bool, whether the label has the highest logit among the classes of its own group.
        labels: (N,) int64, positions among the candidates.
        seen: (N,) bool, whether the label is a seen class.
    """

    margin: NDArray[np.float32]
    correct: Bools
    labels: NDArray[np.int64]
    seen: Bools

    def hits(self, offset: float) -> Bools:
        """Return (N,) bool: which images are classified correctly when `offset` is subtracted from seen classes.

        If the best logits of both groups are equal, the seen class is predicted: it is the first of the candidates.
        """
        predicted_seen = self.margin >= offset
        correct: Bools = self.correct & (predicted_seen == self.seen)
        return correct

    def accuracies(self, offset: float) -> tuple[float, float]:
        """Return the seen and the unseen accuracy at an offset, in percent; NaN for a group without images."""
        hits = self.hits(offset)

        def mean(group: Bools) -> float:
            return 100 * float(self.class_weights[group] @ hits[group]) if group.any() else float("nan")

        return mean(self.seen), mean(~self.seen)

    @property
    def has_both_groups(self) -> bool:
        """Return whether there are images of seen and of unseen classes."""
        return bool(self.seen.any() and not self.seen.all())

    @cached_property
    def class_weights(self) -> Floats:
        """Return the weight (N,) of each image in the mean over the classes of its group."""
        per_class = np.bincount(self.labels)
        present = np.unique(self.labels)
        seen_labels = np.unique(self.labels[self.seen])
        classes = np.where(self.seen, len(seen_labels), len(present) - len(seen_labels))
        weights: Floats = 1 / (per_class[self.labels] * classes)
        return weights


def margins_of(logits: Tensor, labels: NDArray[np.int64], seen: Bools) -> Margins:
    """Return the margins of N images among M candidates.

    Args:
        logits: (N, M), on the CPU.
        labels: (N,) positions among the candidates.
        seen: (M,) bool, which candidates are seen classes.
    """
    values = logits.numpy()
    label_is_seen = seen[labels]
    best = {True: np.full(len(values), -np.inf, np.float32), False: np.full(len(values), -np.inf, np.float32)}
    correct = np.zeros(len(values), bool)

    for kind, group in ((True, np.flatnonzero(seen)), (False, np.flatnonzero(~seen))):
        if len(group):
            within = values[:, group]
            best[kind] = within.max(1)
            correct |= (label_is_seen == kind) & (group[within.argmax(1)] == labels)

    return Margins(best[True] - best[False], correct, labels, label_is_seen)


def joined(parts: Sequence[Margins]) -> Margins:
    """Return the margins of several sets of images with the same candidates as one."""
    return Margins(
        np.concatenate([part.margin for part in parts]),
        np.concatenate([part.correct for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.seen for part in parts]),
    )


def curve(margins: Margins) -> tuple[Floats, Floats]:
    """Return the seen and the unseen accuracy at every offset that changes one of them, (K,) each, in percent.

    The first point is that of an offset below all margins: every image is given to a seen class.
    """
    order = np.argsort(margins.margin, kind="stable")
    margin = margins.margin[order]
    weights = np.where(margins.correct, margins.class_weights, 0.0)[order]
    seen = margins.seen[order]

    # An offset above an image's margin takes its prediction from the seen to the unseen classes. Images with equal
    # margins change together, so only the last of each such group is a point of the curve.
    last = np.flatnonzero(np.append(np.diff(margin) > 0, True))
    lost = np.cumsum(np.where(seen, weights, 0.0))
    gained = np.cumsum(np.where(seen, 0.0, weights))
    return 100 * np.append(lost[-1], lost[-1] - lost[last]), 100 * np.append(0.0, gained[last])


def ausuc(margins: Margins) -> float | None:
    """Return the area under the curve of seen over unseen accuracy, in percent of the unit square.

    None if there are only seen or only unseen images.
    """
    if not margins.has_both_groups:
        return None
    seen, unseen = curve(margins)
    return float(np.trapezoid(seen, unseen)) / 100
