"""The key-value cache of Tip-Adapter (Zhang et al. 2022), shared by `tip_adapter` and `tip_adapter_f`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from pipeline.methods._templates import TemplatedMethod
from pipeline.methods._validation import best_on_validation, first_per_label
from pipeline.methods.base import Classifier, FitData, ViewFamily, scale_of
from pipeline.training.data import LabelledFeatures
from pipeline.training.log import Search, report_search


@dataclass(frozen=True)
class CacheClassifier(Classifier):
    """A classifier with logits = logit_scale * f w^T + alpha * exp(-beta (1 - f K^T)) V.

    V is the one-hot matrix (M, C) of `key_labels`.

    Attributes:
        weights: (C, D) zero-shot text features.
        keys: (M, D) unit rows K, one per training image.
        key_labels: (M,) int64, the class of each key.
        alpha: () residual ratio.
        beta: () sharpness.
    """

    searched: ClassVar[tuple[str, ...]] = ("alpha", "beta")

    weights: Tensor
    keys: Tensor
    key_labels: Tensor
    alpha: Tensor
    beta: Tensor

    def _logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        return self.unchecked_logits(features, class_ids)

    def unchecked_logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        """Return `logits` without their checks, which would make every training step wait for the device."""
        zero_shot = self.logit_scale * features @ self.weights[class_ids].T
        votes = self.votes(features @ self.keys.T)[:, class_ids]
        return zero_shot + self.alpha * votes

    def votes(self, affinity: Tensor) -> Tensor:
        """Return the evidence for each class (N, C), before alpha, from the cosines (N, M) with the keys."""
        weights = torch.exp(-self.beta * (1 - affinity))
        return weights @ F.one_hot(self.key_labels, len(self.weights)).to(weights.dtype)


def build_cache(data: FitData, alpha: float, beta: float) -> CacheClassifier:
    """Return a cache with one key per image.

    A key is the mean of an image's views, which are not normalized before the mean but after it (Tip-Adapter's code,
    d0e2d6f). Each unseen class contributes as many synthetic features as a seen class has images (the first ones of its
    pool), so that no class outvotes another by number of keys.
    """
    keys = F.normalize(data.train.features.mean(1), dim=-1)
    labels = data.train.labels
    if data.synthetic is not None:
        kept = first_per_label(data.synthetic.labels, max(1, data.shots))
        keys = torch.cat([keys, data.synthetic.centre[kept]])
        labels = torch.cat([labels, data.synthetic.labels[kept]])

    scored = torch.zeros_like(data.classes.seen)
    scored[labels] = True
    return CacheClassifier(
        scale_of(data.classes),
        scored,
        weights=data.classes.text_features,
        keys=keys,
        key_labels=labels,
        alpha=torch.tensor(alpha, device=keys.device),
        beta=torch.tensor(beta, device=keys.device),
    )


class CacheMethod(TemplatedMethod):
    """Settings of the cache and of the search of alpha and beta.

    Tip-Adapter's configurations (d0e2d6f, configs/*.yaml, read 2026-11) have an alpha and a grid for each of eleven
    data sets; params.yaml has these. The defaults, for any other data set, are the most frequent alpha, and the medians
    of `alpha_max` and `beta_max`.
    """

    classifier: ClassVar[type[Classifier]] = CacheClassifier

    alpha: Annotated[float, Field(ge=0)] = 1.17  # residual ratio without a search, and while keys are trained
    beta: Annotated[float, Field(gt=0)] = 1.0  # sharpness, in the same cases
    alpha_points: Annotated[int, Field(ge=1)] = 20  # values of alpha tried on validation
    beta_points: Annotated[int, Field(ge=1)] = 200  # values of beta tried on validation
    alpha_max: Annotated[float, Field(gt=0.1)] = 10.0  # values of alpha run from 0.1 up to this
    beta_max: Annotated[float, Field(gt=0.1)] = 12.0  # values of beta run from 0.1 up to this
    centre_crop: bool = True  # whether keys and batches take the centre crop, too (code: augmented crops only)
    view_family: ViewFamily = None  # stored views of keys and batches; null: the first family

    def search(self, cache: CacheClassifier, validation: LabelledFeatures, candidates: Tensor) -> CacheClassifier:
        """Return the cache with the beta and alpha of the best validation accuracy.

        Ties go to the smallest beta, then to the smallest alpha. Without validation images the cache is returned as it
        is.

        Args:
            cache: the cache to tune.
            validation: (V, 1, D) images of seen classes.
            candidates: (S,) the seen classes, among which the images are classified.
        """
        if len(validation) == 0:
            return cache

        beta, alpha = best_on_validation(self._count_grid(cache, validation, candidates))
        for name, value, grid in (
            ("alpha", alpha, _grid(self.alpha_points, self.alpha_max)),
            ("beta", beta, _grid(self.beta_points, self.beta_max)),
        ):
            report_search(Search(name, float(value), float(grid[0]), float(grid[-1])))

        device = validation.labels.device
        return replace(cache, beta=beta.to(device), alpha=alpha.to(device))

    def _count_grid(
        self, cache: CacheClassifier, validation: LabelledFeatures, candidates: Tensor
    ) -> Iterator[tuple[tuple[Tensor, Tensor], int]]:
        """Yield each (beta, alpha) of the grid with its number of correct images.

        One matrix of cosines serves the whole grid, and the votes of each beta serve every alpha: a thirtieth of the
        time of scoring each point by itself (`benchmarks/tip_grid.py`).
        """
        features = validation.centre
        distance = features @ cache.keys.T - 1  # (V, M)
        zero_shot = cache.logit_scale * features @ cache.weights[candidates].T  # (V, S)
        one_hot = F.one_hot(cache.key_labels, len(cache.weights))[:, candidates].to(features.dtype)  # (M, S)
        target = (candidates == validation.labels[:, None]).to(torch.int64).argmax(1, keepdim=True)  # (V, 1)

        alphas = _grid(self.alpha_points, self.alpha_max)
        for beta in _grid(self.beta_points, self.beta_max):
            votes = (float(beta) * distance).exp_() @ one_hot
            counts = torch.stack([_count_correct(zero_shot, votes, float(alpha), target) for alpha in alphas])
            for alpha, correct in zip(alphas, counts.tolist(), strict=True):  # one wait for the device per beta
                yield (beta, alpha), correct


def _count_correct(zero_shot: Tensor, votes: Tensor, alpha: float, target: Tensor) -> Tensor:
    """Return () how many images (V, S) have no class above their own, `target` (V, 1).

    A maximum takes a fifth of the time of an argmax.
    """
    logits = torch.add(zero_shot, votes, alpha=alpha)
    return (logits.gather(1, target).squeeze(1) >= logits.amax(1)).sum()


def _grid(points: int, top: float) -> Tensor:
    """Return (points,) values from 0.1 in equal steps, without `top` itself (Tip-Adapter's code)."""
    return torch.arange(points) * ((top - 0.1) / points) + 0.1
