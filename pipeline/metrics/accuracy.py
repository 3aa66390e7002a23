"""From scores to numbers: top-1 accuracy, its mean over classes, and the harmonic mean of two accuracies.

Pure functions in percent. Torch is not imported: a tensor brings what is needed, and the report, which takes only
`harmonic_mean`, starts without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of rows whose highest logit is at their label, in percent ("micro": every image counts the same).

    Args:
        logits: (N, M), a column a candidate class; of equal highest ones the first counts.
        labels: (N,) int64, positions among the M candidates.

    Raises:
        ValueError: shapes that do not fit, no rows, a label outside the candidates, or a NaN.
    """
    return 100.0 * float(_hits(logits, labels).sum()) / len(labels)


def per_class_accuracy(logits: Tensor, labels: Tensor) -> float:
    """Mean over classes of each class's own top-1 accuracy, in percent (Xian et al., arXiv:1707.00600, equation 8).

    Classes without a row have no accuracy and do not enter the mean. Arguments and errors as in `accuracy`.
    """
    hits = _hits(logits, labels)
    rows = labels.bincount(minlength=logits.shape[1]).double()
    right = labels[hits].bincount(minlength=logits.shape[1]).double()
    present = rows > 0
    return 100.0 * float((right[present] / rows[present]).mean())


def harmonic_mean(a: float | None, b: float | None) -> float | None:
    """H = 2ab / (a + b) (Xian et al., equation 9); H of two zeros is 0; None where either is None.

    Args:
        a: an accuracy in percent, such as base; None where it is a dash.
        b: the other, such as new.
    """
    if a is None or b is None:
        return None
    return 2.0 * a * b / (a + b) if a + b > 0 else 0.0


def _hits(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,) bool: the rows that are right."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} must be (N, M) and (N,)")
    if not len(labels):
        raise ValueError("there are no rows, so there is no accuracy")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= logits.shape[1]:
        raise ValueError(f"labels run from {low} to {high}, but there are {logits.shape[1]} candidate classes")
    if bool(logits.isnan().any()):  # argmax would take NaN for the highest
        raise ValueError(f"{int(logits.isnan().any(dim=1).sum())} of {len(logits)} rows of logits hold NaN")
    return logits.argmax(dim=1) == labels
