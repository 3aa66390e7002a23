"""GDA: Gaussian discriminant analysis beside the zero-shot classifier, without training (Wang et al. 2024).

Features of class c follow N(mu_c, Sigma) with one Sigma for all classes, so

    w_c = Sigma^-1 mu_c,  b_c = log(1 / C) - mu_c^T Sigma^-1 mu_c / 2,
    logits = logit_scale f t^T + alpha (f w^T + b).

The precision Sigma^-1 is the paper's ridge estimate for few images, D ((N - 1) S + tr(S) I)^-1, where S is the
covariance of the N views around their class means. alpha is selected by validation accuracy among seven powers of ten.
Reproduces the row "GDA" of published base-to-new tables (base 83.96, new 74.53, H 78.97, 11 data sets).

For a class without features the base-to-new code takes images that resemble its name: its mean is that of the 64 views
nearest to its text feature and of 16 copies of the text feature. The precision is taken around the text feature and
averaged over such classes.

Differs from the code (560fe21, main_base2new.py): seen classes use the ridge estimate too (the code: a pseudo-inverse
of the mean class covariance); the centre crop is one of the views (the code: augmented views only).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pipeline.methods._affine import class_means, concat_real_synthetic
from pipeline.methods._validation import best_on_validation, count_correct
from pipeline.methods.base import Classifier, FitData, Method, everything_scored, scale_of
from pipeline.training.loop import index_by_label, trained_classes

ALPHAS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)  # tried on validation (code)


@dataclass(frozen=True)
class GdaClassifier(Classifier):
    """A classifier with logits = logit_scale * f t^T + alpha * (f w^T + b).

    Attributes:
        texts: (C, D) zero-shot text features t.
        weights: (C, D) of the discriminant.
        bias: (C,) of the discriminant.
        alpha: () weight of the discriminant.
    """

    texts: Tensor
    weights: Tensor
    bias: Tensor
    alpha: Tensor

    def _logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        discriminant = features @ self.weights[class_ids].T + self.bias[class_ids]
        return self.logit_scale * features @ self.texts[class_ids].T + self.alpha * discriminant


class Gda(Method):
    """Settings of GDA."""

    classifier: ClassVar[type[Classifier]] = GdaClassifier

    alpha: Annotated[float, Field(ge=0)] = 0.1  # weight of the discriminant without validation images (code)
    neighbours: Annotated[int, Field(ge=1)] = 64  # views that represent a class without features (code)
    text_copies: Annotated[int, Field(ge=0)] = 16  # copies of its text feature in its mean (code)

    def fit(self, data: FitData) -> GdaClassifier:
        """Estimate the Gaussians, then select alpha."""
        ids = trained_classes(data.classes, data.synthetic)
        features, labels = concat_real_synthetic(data, every_view=True)
        index = index_by_label(ids, len(data.classes))[labels]

        means = class_means(features, index, len(ids))
        weights, bias = discriminant(means, precision(features - means[index]))

        unseen = data.classes.unseen_ids
        if data.synthetic is None and len(unseen):
            unseen_weights, unseen_bias = self._from_neighbours(features, data.classes.text_features[unseen])
            ids = torch.cat([ids, unseen])
            weights = torch.cat([weights, unseen_weights])
            bias = torch.cat([bias, unseen_bias])

        fitted = GdaClassifier(
            scale_of(data.classes),
            everything_scored(data.classes),
            texts=data.classes.text_features,
            weights=torch.empty_like(weights).index_copy(0, ids, weights),  # in the order of the classes
            bias=torch.empty_like(bias).index_copy(0, ids, bias),
            alpha=torch.tensor(self.alpha, device=ids.device),
        )
        return select_alpha(fitted, data)

    def _from_neighbours(self, features: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights (U, D) and biases (U,) of classes that only have text features (U, D)."""
        count = min(self.neighbours, len(features))
        nearest = features[(texts @ features.T).topk(count).indices]  # (U, k, D)

        means = (nearest.sum(1) + self.text_copies * texts) / (count + self.text_copies)
        precisions = [precision(near - text) for near, text in zip(nearest, texts, strict=True)]
        return discriminant(means, torch.stack(precisions).mean(0))


def precision(deviations: Tensor) -> Tensor:
    """Return the ridge estimate (D, D) of the inverse covariance from deviations (N, D)."""
    n, d = deviations.shape
    deviations = deviations.double()  # small eigenvalues would drown beside tr(S) in float32

    scatter = deviations.T @ deviations
    ridge = scatter.trace() / max(n - 1, 1) * torch.eye(d, dtype=deviations.dtype, device=deviations.device)
    inverse: Tensor = torch.linalg.inv(scatter + ridge)
    return d * inverse


def discriminant(means: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights (C, D) and biases (C,) of Gaussians with equal priors.

    Args:
        means: (C, D).
        inverse: (D, D) inverse of their common covariance, float64.
    """
    wide = means.double()
    weights = wide @ inverse
    bias = -torch.log(torch.tensor(float(len(means)))) - (weights * wide).sum(-1) / 2
    return weights.to(means.dtype), bias.to(means.dtype)


def select_alpha(fitted: GdaClassifier, data: FitData) -> GdaClassifier:
    """Return the classifier with the alpha of the best validation accuracy, the smallest on a tie.

    Without validation images it is returned as it is.
    """
    if len(data.validation) == 0:
        return fitted

    candidates = (replace(fitted, alpha=torch.full_like(fitted.alpha, alpha)) for alpha in ALPHAS)
    return best_on_validation(
        (classifier, count_correct(classifier, data.validation, data.classes.seen_ids)) for classifier in candidates
    )
