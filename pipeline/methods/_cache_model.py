"""Tip-Adapter's key-value cache (Zhang et al. 2022), shared by its two forms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from pipeline.methods.base import Classifier, Method, scale_of
from pipeline.training.data import ClassSet, LabelledFeatures


@dataclass(frozen=True)
class CacheClassifier(Classifier):
    """logits = logit_scale * f w^T + alpha * exp(-beta (1 - f K^T)) V.

    Attributes:
        weights: (C, D) zero-shot text features.
        keys: (M, D) unit rows. key_labels: (M,) the class of each key: V is their one-hot matrix.
        alpha, beta: () residual ratio and sharpness.
    """

    weights: Tensor
    keys: Tensor
    key_labels: Tensor
    alpha: Tensor
    beta: Tensor

    def _logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        return self.scores(features, class_ids)

    def scores(self, features: Tensor, class_ids: Tensor) -> Tensor:
        """`logits` without its questions, for which training would wait at each step."""
        zero_shot = self.logit_scale * features @ self.weights[class_ids].T
        return zero_shot + self.alpha * self.cached(features @ self.keys.T, self.beta)[:, class_ids]

    def cached(self, affinity: Tensor, beta: Tensor) -> Tensor:
        """Affinities (N, M) to the evidence for each class (N, C), before alpha."""
        votes = torch.exp(-beta * (1 - affinity))
        return votes @ F.one_hot(self.key_labels, len(self.weights)).to(votes.dtype)


def build(
    train: LabelledFeatures, classes: ClassSet, synthetic: LabelledFeatures | None, alpha: float, beta: float
) -> CacheClassifier:
    """A cache with one key an image: the mean of its views, not normalised before the mean, then L2 (official code).

    Of the synthetic features as many a class are kept as a seen class has images, the first ones, so that no class
    outvotes another by the number of its keys.
    """
    keys, labels = F.normalize(train.features.mean(1), dim=-1), train.labels
    if synthetic is not None:
        kept = first_of_each(synthetic.labels, max(1, len(train) // max(len(classes.seen_ids), 1)))
        keys = torch.cat([keys, synthetic.centre[kept]])
        labels = torch.cat([labels, synthetic.labels[kept]])
    scored = torch.zeros_like(classes.seen)
    scored[labels] = True
    device = keys.device
    return CacheClassifier(
        scale_of(classes),
        scored,
        weights=classes.text_features,
        keys=keys,
        key_labels=labels,
        alpha=torch.tensor(alpha, device=device),
        beta=torch.tensor(beta, device=device),
    )


def first_of_each(labels: Tensor, count: int) -> Tensor:
    """(N,) bool: the first `count` rows of each label."""
    one_hot = F.one_hot(labels)
    rank = one_hot.cumsum(0).gather(1, labels[:, None]).squeeze(1)
    return rank <= count


class CacheMethod(Method):
    """Settings of the cache and of its search; the numbers are the official ImageNet configuration's."""

    classifier: ClassVar[type[Classifier]] = CacheClassifier

    alpha: Annotated[float, Field(ge=0)] = 1.17  # residual ratio, where nothing is searched
    beta: Annotated[float, Field(gt=0)] = 1.0  # sharpness, where nothing is searched
    alpha_points: Annotated[int, Field(ge=1)] = 20  # values of alpha tried on validation
    beta_points: Annotated[int, Field(ge=1)] = 200  # values of beta tried on validation
    alpha_max: Annotated[float, Field(gt=0.1)] = 3.0  # values run from 0.1 up to this
    beta_max: Annotated[float, Field(gt=0.1)] = 7.0

    def searched(self, cache: CacheClassifier, validation: LabelledFeatures, candidates: Tensor) -> CacheClassifier:
        """Choose beta and alpha by validation accuracy; the smallest of those that tie. No validation, no change.

        One affinity matrix serves the whole grid, and each beta's votes serve every alpha.

        Args:
            cache: whose beta and alpha are to be chosen.
            validation: (V, 1, D) images of seen classes.
            candidates: (S,) the seen classes, among which they are judged.
        """
        if len(validation) == 0:
            return cache
        features = validation.centre
        distance = features @ cache.keys.T - 1
        zero_shot = cache.logit_scale * features @ cache.weights[candidates].T
        one_hot = F.one_hot(cache.key_labels, len(cache.weights))[:, candidates].to(features.dtype)
        truth = (candidates == validation.labels[:, None]).to(torch.int64).argmax(1, keepdim=True)
        alphas = _grid(self.alpha_points, self.alpha_max)
        best, chosen = -1, (cache.beta, cache.alpha)
        for beta in _grid(self.beta_points, self.beta_max):
            votes = (float(beta) * distance).exp_() @ one_hot
            right = torch.stack([_right(zero_shot, votes, float(alpha), truth) for alpha in alphas])
            if int(right.max()) > best:
                best, chosen = int(right.max()), (beta, alphas[int(right.argmax())])
        chosen = chosen[0].to(features.device), chosen[1].to(features.device)
        return replace(cache, beta=chosen[0], alpha=chosen[1])


def _right(zero_shot: Tensor, votes: Tensor, alpha: float, truth: Tensor) -> Tensor:
    """How many images (V, C) have no class above their own, `truth` (V, 1); a maximum is a fifth of argmax's cost."""
    logits = torch.add(zero_shot, votes, alpha=alpha)
    return (logits.gather(1, truth).squeeze(1) >= logits.amax(1)).sum()


def _grid(points: int, top: float) -> Tensor:
    """(points,) values from 0.1 in equal steps, `top` left out (official code)."""
    return torch.arange(points) * ((top - 0.1) / points) + 0.1
