"""The temperature that lets a run's probabilities say how often it is right (Guo et al. 2017, section 4.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import softmax

from pipeline.artifacts.selection import HIGHEST, LOWEST


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """What to divide logits (..., N, C) by, so that their softmax is least surprised by labels (N,).

    Every class counts the same, however many images it has. (N + 1) / (N + 2) of an image counts for its label and the
    rest for all classes alike, so that N right answers do not make the next one certain (after Platt 1999).

    Returns:
        The one temperature at which the cross-entropy, which is convex in 1 / T, is level; or exactly `HIGHEST` where
        logits say no more of the labels than chance does, exactly `LOWEST` where no certainty is too much.
    """
    exact, weights = logits.astype(np.float64), 1 / np.bincount(labels)[labels]
    kept = (len(labels) + 1) / (len(labels) + 2)
    wanted = kept * exact[..., np.arange(len(labels)), labels] + (1 - kept) * exact.mean(-1)

    def slope(log_temperature: float) -> float:
        """Of the cross-entropy in 1 / T."""
        expected = (softmax(exact / np.exp(log_temperature), axis=-1) * exact).sum(-1)
        return float(((expected - wanted) @ weights).sum())

    low, high = np.log(LOWEST), np.log(HIGHEST)
    if slope(high) >= 0:
        return HIGHEST
    if slope(low) <= 0:
        return LOWEST
    return float(np.exp(brentq(slope, low, high)))
