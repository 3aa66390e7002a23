"""GDA: Gaussian discriminant analysis beside the zero-shot classifier, without training (Wang et al. 2024).

Features of class c follow N(mu_c, Sigma) with one Sigma for all classes, so

    w_c = Sigma^-1 mu_c,  b_c = log(1 / C) - mu_c^T Sigma^-1 mu_c / 2,
    logits = logit_scale f t^T + alpha (f w^T + b).

The precision Sigma^-1 is the paper's ridge estimate for few images, D ((N - 1) S + tr(S) I)^-1, where S is the
covariance of the N views around their class means. alpha is selected by validation accuracy among seven powers of ten.
Published base-to-new tables have it in the row "GDA" (base 83.96, new 74.53, H 78.97, 11 data sets).

For a class without features the base-to-new code takes images that resemble its name: its mean is that of the 64 views
nearest to its text feature and of 16 copies of the text feature. The ridge estimate is taken around the text feature
and averaged over such classes. The seen classes of such a task use the pseudo-inverse of the mean of the classes'
covariances there, which few-shot tasks do not (`seen_precision`). This decides alpha, and so the accuracy of new
classes.

Differs from the code (560fe21, read 2026-11): stored views (the code: fresh crops); for ImageNet the code selects alpha
on test images (see `validation_from` of a task).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from features.errors import InputError
from pipeline.methods._affine import class_means, concat_real_synthetic
from pipeline.methods._templates import TemplatedMethod
from pipeline.methods._validation import best_on_validation, count_correct
from pipeline.methods.base import Classifier, FitData, ViewFamily, everything_scored, scale_of
from pipeline.training.log import Search, report_search
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

    searched: ClassVar[tuple[str, ...]] = ("alpha",)

    texts: Tensor
    weights: Tensor
    bias: Tensor
    alpha: Tensor

    def _logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        discriminant = features @ self.weights[class_ids].T + self.bias[class_ids]
        return self.logit_scale * features @ self.texts[class_ids].T + self.alpha * discriminant


class Gda(TemplatedMethod):
    """Settings of GDA."""

    classifier: ClassVar[type[Classifier]] = GdaClassifier

    alpha: Annotated[float, Field(ge=0)] = 0.1  # weight of the discriminant without validation images (code)
    # of the seen classes, if others are only named: pinv (code, base-to-new) | ridge (as without such classes)
    seen_precision: Literal["pinv", "ridge"] = "pinv"
    centre_crop: bool = False  # whether the centre crop is one of the views (code: augmented crops only)
    neighbours: Annotated[int, Field(ge=1)] = 64  # views that represent a class without features (code)
    text_copies: Annotated[int, Field(ge=0)] = 16  # copies of its text feature in its mean (code)
    view_family: ViewFamily = None  # stored views of the estimates; null: the first family

    def fit(self, data: FitData) -> GdaClassifier:
        """Estimate the Gaussians, then select alpha."""
        data = self.with_templates(data)
        ids = trained_classes(data.classes, data.synthetic)
        data = data if self.centre_crop else data.without_centre_crop()
        features, labels = concat_real_synthetic(data, every_view=True)
        index = index_by_label(ids, len(data.classes))[labels]
        unseen = data.classes.unseen_ids
        some_only_named = data.synthetic is None and len(unseen) > 0

        means = class_means(features, index, len(ids))
        deviations = features - means[index]
        if some_only_named and self.seen_precision == "pinv":
            weights, bias = discriminant(means, pseudo_inverse(deviations, index))
        else:
            weights, bias = discriminant(means, precision(deviations))

        if some_only_named:
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
    """Return the ridge estimate (D, D) of the inverse covariance from deviations (N, D).

    Raises:
        InputError: all deviations are zero, as with a single view of a single image of each class.
    """
    n, d = deviations.shape
    deviations = deviations.double()  # small eigenvalues would drown beside tr(S) in float32

    scatter = deviations.T @ deviations
    if not scatter.any():
        raise InputError(
            "gda: each class has one feature, so the covariance within classes is zero; use more `shots`, or a store "
            "with views (`extract.views`)"
        )
    ridge = scatter.trace() / max(n - 1, 1) * torch.eye(d, dtype=deviations.dtype, device=deviations.device)
    inverse: Tensor = torch.linalg.inv(scatter + ridge)
    return d * inverse


def pseudo_inverse(deviations: Tensor, labels: Tensor) -> Tensor:
    """Return the pseudo-inverse (D, D) of the mean of the classes' covariances.

    Eigenvalues that float32 cannot tell from 0 count as 0, as in the code.

    Args:
        deviations: (N, D) from the mean of the row's class.
        labels: (N,) in 0 .. C - 1; each has rows. A class with a single row has no covariance and counts as 0.
    """
    d = deviations.shape[1]
    rows = F.one_hot(labels).sum(0)
    share = 1 / (rows - 1).clamp(min=1).double() / len(rows)  # of a row in the mean covariance

    covariance = deviations.double().T @ (deviations.double() * share[labels, None])
    inverse: Tensor = torch.linalg.pinv(covariance, rtol=d * torch.finfo(torch.float32).eps, hermitian=True)
    return inverse


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

    def weighted(alpha: float) -> GdaClassifier:
        return replace(fitted, alpha=torch.full_like(fitted.alpha, alpha))

    alpha = best_on_validation(
        (alpha, count_correct(weighted(alpha), data.validation, data.classes.seen_ids)) for alpha in ALPHAS
    )
    report_search(Search("alpha", alpha, ALPHAS[0], ALPHAS[-1]))
    return weighted(alpha)
