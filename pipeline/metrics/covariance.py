"""The largest variance of features in any direction, within classes and in total."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def largest_eigenvalues(features: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the largest eigenvalue of the covariance of features within classes, and in total.

    The first is what the class leaves unexplained: class means are subtracted, and N - C is the divisor.

    Args:
        features: (N, D) unit features.
        labels: (N,) their C classes; some class has two images.

    Raises:
        ValueError: no class has two images.
    """
    x = features.double()
    classes, positions = np.unique(labels.cpu().numpy(), return_inverse=True)
    index = torch.from_numpy(positions)
    if len(classes) == len(x):
        raise ValueError(f"{len(x)} features of {len(classes)} classes: no class has two, so it has no variance")

    one_hot = torch.nn.functional.one_hot(index, len(classes)).double()
    means = (one_hot.T @ x) / one_hot.sum(0)[:, None]
    within = x - means[index]
    total = x - x.mean(0)
    return _largest(within, len(x) - len(classes)), _largest(total, len(x) - 1)


def _largest(centred: Tensor, divisor: int) -> float:
    """Return the largest eigenvalue of the covariance of centred rows (N, D)."""
    # The largest singular value of the rows; the smaller of the two Gram matrices has the same eigenvalues.
    gram = centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred
    return float(torch.linalg.eigvalsh(gram)[-1]) / divisor
