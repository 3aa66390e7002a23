"""Temperature scaling: calibrate a run's probabilities on labelled images (Guo et al. 2017, section 4.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import softmax


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.int64], *, lowest: float, highest: float) -> float:
    """Return the temperature T that minimises the cross-entropy of softmax(logits / T) with the labels.

    Every class counts the same, however many images it has. The targets are smoothed, so that N correct answers do not
    make the next one certain (after Platt 1999): (N + 1) / (N + 2) of an image counts for its label, and the rest is
    spread over all classes.

    Args:
        logits: (..., N, C); each leading index, such as a seed, is a set of N images.
        labels: (N,) or (..., N) positions among the C classes.
        lowest: smallest temperature.
        highest: largest temperature.

    Returns:
        The minimiser, which is unique because the cross-entropy is convex in 1 / T. It is exactly `highest` if the
        logits predict the labels no better than chance, and exactly `lowest` if no confidence is too high.
    """
    exact = logits.astype(np.float64)
    labels = np.broadcast_to(labels, exact.shape[:-1])
    images = labels.shape[-1]
    sets = labels.reshape(-1, images)
    # One weight per image, so that each class of a set counts the same.
    weights = np.stack([1 / np.bincount(one)[one] for one in sets]).reshape(labels.shape)
    kept = (images + 1) / (images + 2)
    of_label = np.take_along_axis(exact, labels[..., None], -1)[..., 0]
    target = kept * of_label + (1 - kept) * exact.mean(-1)

    def slope(log_temperature: float) -> float:
        """Return the derivative of the cross-entropy with respect to 1 / T."""
        expected = (softmax(exact / np.exp(log_temperature), axis=-1) * exact).sum(-1)
        return float(((expected - target) * weights).sum())

    # The slope falls as T grows, so a root lies between the bounds unless the slope has one sign at both.
    low, high = np.log(lowest), np.log(highest)
    if slope(high) >= 0:
        return highest
    if slope(low) <= 0:
        return lowest
    return float(np.exp(brentq(slope, low, high)))
