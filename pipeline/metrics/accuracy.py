"""Top-1 accuracy, its mean over classes, and the harmonic mean of two accuracies.

Pure functions, in percent. Torch is not imported here: the tensors bring their own operations, and the report, which
needs only `harmonic_mean`, starts without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the percentage of rows whose highest logit is at their label ("micro": every image counts the same).

    Args:
        logits: (N, M), a column per candidate class; among equal highest logits the first counts.
        labels: (N,) int64, positions among the M candidates.

    Raises:
        ValueError: the shapes disagree, there are no rows, a label is outside the candidates, or a logit is NaN.
    """
    return 100.0 * float(_hits(logits, labels).sum()) / len(labels)


def per_class_accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the mean over classes of each class's top-1 accuracy, in percent (Xian et al., arXiv:1707.00600, Eq. 8).

    Classes without a row have no accuracy and are left out of the mean. Arguments and errors are those of `accuracy`.
    """
    hits = _hits(logits, labels)
    rows = labels.bincount(minlength=logits.shape[1]).double()
    correct = labels[hits].bincount(minlength=logits.shape[1]).double()
    present = rows > 0
    return 100.0 * float((correct[present] / rows[present]).mean())


def harmonic_mean(a: float | None, b: float | None) -> float | None:
    """Return H = 2ab / (a + b) (Xian et al., Eq. 9); 0 for two zeros, None if either is None.

    Args:
        a: an accuracy in percent, such as base; None if the table shows a dash.
        b: the other accuracy, such as new.
    """
    if a is None or b is None:
        return None
    return 2.0 * a * b / (a + b) if a + b > 0 else 0.0


def _hits(logits: Tensor, labels: Tensor) -> Tensor:
    """Return (N,) bool, true for the rows whose highest logit is at their label.

    Raises:
        ValueError: see `accuracy`.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} must be (N, M) and (N,)")
    if not len(labels):
        raise ValueError("accuracy needs at least one row, but logits and labels have 0")

    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= logits.shape[1]:
        raise ValueError(f"labels range from {low} to {high}, but must be in [0, {logits.shape[1]})")

    # argmax would take NaN as the highest logit.
    rows_with_nan = int(logits.isnan().any(dim=1).sum())
    if rows_with_nan:
        raise ValueError(f"{rows_with_nan} of {len(logits)} rows of logits contain NaN")

    return logits.argmax(dim=1) == labels
