"""Linear probe: logistic regression on image features (Radford et al. 2021).

Fitted by scikit-learn's L-BFGS with at most 1,000 iterations. C is selected on validation images as CLIP describes: the
accuracy is measured at 10^-6, 10^-4, .., 10^6, then the interval around the peak is halved down to 8 steps per decade.
CoOp's Figure 3 and Table 1 have it as "Linear probe CLIP". Alone it cannot score classes without images.

Differs from CLIP: features are unit vectors after the projection, as for all methods here (CLIP: before the projection,
not normalized); validation images serve the search only (CLIP adds them to the final fit). Differs from CoOp's
`lpclip` (ff61507, read 2026-11): features of unit length; all validation images are used (there: at most 4 per class,
and test images for ImageNet; see `validation_shots`); the C nearest to 1 wins a tie (there: the largest); and the best
C of the search is taken (there: its last step).
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
from pipeline.methods._affine import AffineClassifier, affine_classifier, concat_real_synthetic
from pipeline.methods._validation import budgeted, count_correct
from pipeline.methods.base import Classifier, FitData, Method
from pipeline.training.log import Search, report_search
from pipeline.training.loop import index_by_label, trained_classes

STEPS_PER_DECADE = 8  # finest steps of the search (CLIP)


class LinearProbe(Method):
    """Settings of the linear probe."""

    classifier: ClassVar[type[Classifier]] = AffineClassifier

    c: Annotated[float, Field(gt=0)] = 31.6  # inverse L2 strength without validation (CLIP: 0.316 on raw features)
    # validation images per class at most, and no more than shots; null: all (CoOp's lpclip: 4)
    validation_shots: Annotated[int, Field(ge=1)] | None = None
    iterations: Annotated[int, Field(ge=1)] = 1000  # maximum of L-BFGS (CLIP)

    def fit(self, data: FitData) -> AffineClassifier:
        """Search C, then fit with it.

        Raises:
            InputError: only one class has features.
        """
        ids = trained_classes(data.classes, data.synthetic)
        if len(ids) < 2:
            raise InputError(
                f"methods.linear_probe: a logistic regression needs features of at least 2 classes, got {len(ids)}"
            )

        features, labels = concat_real_synthetic(data)
        index = index_by_label(ids, len(data.classes))[labels]

        @cache  # the search ends at a C that it has already fitted
        def fit_with(c: float) -> AffineClassifier:
            return affine_classifier(data.classes, ids, *regression(features, index, c, self.iterations))

        if len(data.validation) == 0:
            return fit_with(self.c)
        validation = budgeted(data, self.validation_shots)
        c = search_peak(lambda c: count_correct(fit_with(c), validation, data.classes.seen_ids))
        report_search(Search("c", c, 1e-6, 1e6))
        return fit_with(c)


def regression(features: Tensor, labels: Tensor, c: float, iterations: int) -> tuple[Tensor, Tensor]:
    """Minimise c * (sum of cross-entropies) + |W|^2 / 2.

    Args:
        features: (N, D).
        labels: (N,) in 0 .. C - 1; C >= 2.
        c: inverse L2 strength.
        iterations: maximum of L-BFGS.

    Returns:
        Weights (C, D) and biases (C,), float64.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=c, max_iter=iterations)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the limit on iterations is part of the recipe
        model.fit(features.double().cpu().numpy(), labels.cpu().numpy())

    weights = torch.from_numpy(model.coef_).to(features.device)
    bias = torch.from_numpy(model.intercept_).to(features.device)
    if len(bias) == 1:  # for two classes scikit-learn returns only their difference
        return torch.cat([-weights, weights]) / 2, torch.cat([-bias, bias]) / 2
    return weights, bias


def search_peak(score: Callable[[float], float]) -> float:
    """Return the C in 10^-6 .. 10^6 at which CLIP's search ends; a larger `score` is better."""
    low, high, step = -6 * STEPS_PER_DECADE, 6 * STEPS_PER_DECADE, 2 * STEPS_PER_DECADE
    scores = {k: score(10 ** (k / STEPS_PER_DECADE)) for k in range(low, high + 1, step)}

    while True:
        best = max(scores, key=lambda k: (scores[k], -abs(k), k))  # ties: the C nearest to 1
        step //= 2
        if step == 0:
            return float(10 ** (best / STEPS_PER_DECADE))
        scores |= {k: score(10 ** (k / STEPS_PER_DECADE)) for k in (best - step, best + step) if low <= k <= high}
