"""Linear probe: logistic regression on image features (Radford et al. 2021).

scikit-learn's L-BFGS, at most 1,000 iterations. C is chosen on validation as CLIP describes: accuracies at 10^-6,
10^-4, .., 10^6, then the interval around the peak is halved until 8 steps a decade are told apart. Reproduces "Linear
probe CLIP" of CoOp Figure 3 and Table 1. Alone it cannot score classes without images.

Differs from CLIP: features are unit vectors after the projection, as all methods here take them (CLIP: before the
projection, not normalised), and the validation images serve the search alone (CLIP adds them to the final fit). Of
equally good ones the C nearest to 1 is taken.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from features.errors import InputError
from pipeline.methods._affine import AffineClassifier, affine, concat_real_synthetic
from pipeline.methods.base import Classifier, FitData, Method
from pipeline.training.loop import index_by_label, trained_classes

DECADE = 8  # finest steps that the search tells apart (CLIP)


class LinearProbe(Method):
    """Settings of the linear probe."""

    classifier: ClassVar[type[Classifier]] = AffineClassifier

    c: Annotated[float, Field(gt=0)] = 31.6  # inverse L2 strength, where there is no validation image to search it on
    iterations: Annotated[int, Field(ge=1)] = 1000  # most of L-BFGS (CLIP)

    def fit(self, data: FitData) -> AffineClassifier:
        """Search C, then fit with it.

        Raises:
            InputError: there is only one class to tell apart.
        """
        ids = trained_classes(data.classes, data.synthetic)
        if len(ids) < 2:
            raise InputError("methods.linear_probe: a logistic regression needs two classes with features at least")
        features, labels = concat_real_synthetic(data.train, data.synthetic, data.classes)
        place = index_by_label(ids, len(data.classes))[labels]

        @cache
        def fitted(c: float) -> AffineClassifier:
            return affine(data.classes, ids, *regression(features, place, c, self.iterations))

        def right(c: float) -> int:
            chosen = fitted(c).logits(data.validation.centre, data.classes.seen_ids).argmax(1)
            return int((data.classes.seen_ids[chosen] == data.validation.labels).sum())

        return fitted(peak(right) if len(data.validation) else self.c)


def regression(features: Tensor, labels: Tensor, c: float, iterations: int) -> tuple[Tensor, Tensor]:
    """Minimise c * (sum of cross-entropies) + |W|^2 / 2 over features (N, D), labels (N,) in 0 .. C - 1, C >= 2.

    Returns:
        Weights (C, D) and biases (C,), float64.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=c, max_iter=iterations)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the limit on iterations is part of the recipe
        model.fit(features.double().cpu().numpy(), labels.cpu().numpy())
    weights, bias = (torch.from_numpy(found).to(features.device) for found in (model.coef_, model.intercept_))
    if len(bias) == 1:  # of two classes scikit-learn gives the difference
        return torch.cat([-weights, weights]) / 2, torch.cat([-bias, bias]) / 2
    return weights, bias


def peak(score: Callable[[float], float]) -> float:
    """The C of 10^-6 .. 10^6 that CLIP's search ends at; `score` is larger the better."""
    low, high, step = -6 * DECADE, 6 * DECADE, 2 * DECADE
    tried = {k: score(10 ** (k / DECADE)) for k in range(low, high + 1, step)}
    while True:
        best = max(tried, key=lambda k: (tried[k], -abs(k), k))
        step //= 2
        if step == 0:
            return float(10 ** (best / DECADE))
        tried |= {k: score(10 ** (k / DECADE)) for k in (best - step, best + step) if low <= k <= high}
