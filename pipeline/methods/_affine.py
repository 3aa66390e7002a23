"""Classifiers with a weight and a bias for each class that has features, and what they are fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.methods._cache_model import first_of_each
from pipeline.methods.base import Classifier
from pipeline.training.data import ClassSet, LabelledFeatures


@dataclass(frozen=True)
class AffineClassifier(Classifier):
    """logits = logit_scale * (f w^T + b): weights (C, D) of any length, bias (C,)."""

    weights: Tensor
    bias: Tensor

    def _logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        return self.logit_scale * (features @ self.weights[class_ids].T + self.bias[class_ids])


def affine(classes: ClassSet, ids: Tensor, weights: Tensor, bias: Tensor, scale: float = 1.0) -> AffineClassifier:
    """A classifier of the classes `ids` (T,) alone, from their weights (T, D) and biases (T,); float32."""
    everyone = torch.zeros_like(classes.text_features)
    return AffineClassifier(
        torch.tensor(scale, device=ids.device),
        torch.zeros_like(classes.seen).index_fill(0, ids, value=True),
        weights=everyone.index_copy(0, ids, weights.to(everyone.dtype)),
        bias=everyone[:, 0].index_copy(0, ids, bias.to(everyone.dtype)),
    )


def concat_real_synthetic(
    train: LabelledFeatures, synthetic: LabelledFeatures | None, classes: ClassSet, *, every_view: bool = False
) -> tuple[Tensor, Tensor]:
    """Unit features (N, D) and labels (N,) of the real images and, if given, of the synthetic features.

    Of the synthetic features as many a class are kept as a seen class has images, the first ones, so that no class
    outweighs another by its number. `every_view` takes all views of an image in place of its centre crop.
    """
    features = train.unit.flatten(0, 1) if every_view else train.centre
    labels = train.labels.repeat_interleave(len(features) // len(train))
    if synthetic is None:
        return features, labels
    kept = first_of_each(synthetic.labels, max(1, len(train) // max(len(classes.seen_ids), 1)))
    return torch.cat([features, synthetic.centre[kept]]), torch.cat([labels, synthetic.labels[kept]])


def class_means(features: Tensor, places: Tensor, count: int) -> Tensor:
    """(count, D) mean of the rows (N, D) of each class; places (N,) in 0 .. count - 1, each of which occurs."""
    one_hot = F.one_hot(places, count).to(features.dtype)
    return one_hot.T @ features / one_hot.sum(0)[:, None]
