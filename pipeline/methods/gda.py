"""GDA: Gaussian discriminant analysis beside the zero-shot classifier; nothing is trained (Wang et al. 2024).

Features of class c are N(mu_c, Sigma) with one Sigma: w_c = Sigma^-1 mu_c, b_c = log(1 / C) - mu_c^T Sigma^-1 mu_c / 2.
The precision is the paper's ridge estimate for few images, D ((N - 1) S + tr(S) I)^-1, S the covariance of the N views
around their class means. logits = logit_scale f t^T + alpha (f w^T + b), alpha by validation accuracy among seven
powers of ten. Reproduces the row "GDA" of published base-to-new tables (base 83.96, new 74.53, H 78.97, 11 data sets).

A class without features gets a mean and a precision from the images that resemble its name (the base-to-new code): the
64 views nearest to its text feature and 16 copies of that; the precision around the text, averaged over such classes.
Differs from that code: seen classes use the ridge estimate too (there: a pseudo-inverse of the mean class covariance).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pipeline.methods._affine import class_means, concat_real_synthetic
from pipeline.methods.base import Classifier, FitData, Method, everything_scored, scale_of
from pipeline.training.data import LabelledFeatures
from pipeline.training.loop import index_by_label, trained_classes

ALPHAS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)  # tried on validation (code)


@dataclass(frozen=True)
class GdaClassifier(Classifier):
    """logits = logit_scale * f t^T + alpha * (f w^T + b).

    Attributes:
        texts: (C, D) zero-shot text features. weights: (C, D) and bias: (C,) of the discriminant. alpha: ().
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

    alpha: Annotated[float, Field(ge=0)] = 0.1  # weight of the discriminant, where there is no validation image (code)
    neighbours: Annotated[int, Field(ge=1)] = 64  # views that stand for a class without features (code)
    text_copies: Annotated[int, Field(ge=0)] = 16  # of its text feature in its mean (code)

    def fit(self, data: FitData) -> GdaClassifier:
        """Estimate the Gaussians, then choose alpha."""
        ids = trained_classes(data.classes, data.synthetic)
        features, labels = concat_real_synthetic(data.train, data.synthetic, data.classes, every_view=True)
        place = index_by_label(ids, len(data.classes))[labels]
        means = class_means(features, place, len(ids))
        found = [(ids, *discriminant(means, precision(features - means[place])))]
        others = data.classes.unseen_ids
        if data.synthetic is None and len(others):
            found.append((others, *self._resembling(features, data.classes.text_features[others])))
        order = torch.cat([part[0] for part in found])
        weights, bias = (torch.cat([part[i] for part in found]) for i in (1, 2))
        fitted = GdaClassifier(
            scale_of(data.classes),
            everything_scored(data.classes),
            texts=data.classes.text_features,
            weights=torch.empty_like(weights).index_copy(0, order, weights),
            bias=torch.empty_like(bias).index_copy(0, order, bias),
            alpha=torch.tensor(self.alpha, device=ids.device),
        )
        return chosen(fitted, data.validation, data.classes.seen_ids)

    def _resembling(self, features: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (U, D) and biases (U,) of classes that only have text features (U, D)."""
        nearest = features[(texts @ features.T).topk(min(self.neighbours, len(features))).indices]  # (U, k, D)
        copies = self.text_copies
        means = (nearest.sum(1) + copies * texts) / (nearest.shape[1] + copies)
        precisions = [precision(near - text) for near, text in zip(nearest, texts, strict=True)]
        return discriminant(means, torch.stack(precisions).mean(0))


def precision(off: Tensor) -> Tensor:
    """(D, D): the ridge estimate of the inverse covariance from deviations (N, D)."""
    n, d = off.shape
    off = off.double()  # tr(S) / N beside small eigenvalues
    scatter = off.T @ off
    ridge = scatter.trace() / max(n - 1, 1) * torch.eye(d, dtype=off.dtype, device=off.device)
    inverse: Tensor = torch.linalg.inv(scatter + ridge)
    return d * inverse


def discriminant(means: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (C, D) and biases (C,) of Gaussians with means (C, D), one inverse covariance (D, D), equal priors."""
    wide = means.double()
    weights = wide @ inverse
    bias = -torch.log(torch.tensor(float(len(means)))) - (weights * wide).sum(-1) / 2
    return weights.to(means.dtype), bias.to(means.dtype)


def chosen(fitted: GdaClassifier, validation: LabelledFeatures, candidates: Tensor) -> GdaClassifier:
    """With the alpha of the best validation accuracy among the classes `candidates` (S,); the smallest that ties."""
    best, kept = -1, fitted
    for alpha in ALPHAS if len(validation) else ():
        tried = replace(fitted, alpha=torch.full_like(fitted.alpha, alpha))
        picked = candidates[tried.logits(validation.centre, candidates).argmax(1)]
        right = int((picked == validation.labels).sum())
        if right > best:
            best, kept = right, tried
    return kept
