"""Classifiers with a weight and a bias per class, for methods that fit on image features alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.methods._validation import first_per_label
from pipeline.methods.base import Classifier, FitData
from pipeline.training.data import ClassSet


@dataclass(frozen=True)
class AffineClassifier(Classifier):
    """A classifier with logits = logit_scale * (f w^T + b).

    Attributes:
        weights: (C, D) of any length; 0 for a class that cannot be scored.
        bias: (C,).
    """

    weights: Tensor
    bias: Tensor

    def _logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        return self.logit_scale * (features @ self.weights[class_ids].T + self.bias[class_ids])


def affine_classifier(classes: ClassSet, ids: Tensor, weights: Tensor, bias: Tensor) -> AffineClassifier:
    """Return a float32 classifier that scores only the classes `ids` (T,), from weights (T, D) and biases (T,)."""
    no_weights = torch.zeros_like(classes.text_features)

    return AffineClassifier(
        logit_scale=torch.tensor(1.0, device=ids.device),
        scored=torch.zeros_like(classes.seen).index_fill(0, ids, value=True),
        weights=no_weights.index_copy(0, ids, weights.to(no_weights.dtype)),
        bias=no_weights[:, 0].index_copy(0, ids, bias.to(no_weights.dtype)),
    )


def concat_real_synthetic(data: FitData, *, every_view: bool = False) -> tuple[Tensor, Tensor]:
    """Return unit features (N, D) and labels (N,) of the real images, followed by the synthetic features if any.

    Each unseen class contributes as many synthetic features as a seen class has images (the first ones of its pool), so
    that no class outweighs another by number.

    Args:
        data: training images and synthetic features.
        every_view: return all views of each image instead of its centre crop.
    """
    features = data.train.unit.flatten(0, 1) if every_view else data.train.centre
    labels = data.train.labels.repeat_interleave(len(features) // len(data.train))
    if data.synthetic is None:
        return features, labels

    kept = first_per_label(data.synthetic.labels, max(1, data.shots))
    return torch.cat([features, data.synthetic.centre[kept]]), torch.cat([labels, data.synthetic.labels[kept]])


def class_means(features: Tensor, labels: Tensor, count: int) -> Tensor:
    """Return the mean (count, D) of the rows (N, D) of each class; each label 0 .. count - 1 occurs in labels (N,)."""
    one_hot = F.one_hot(labels, count).to(features.dtype)
    return one_hot.T @ features / one_hot.sum(0)[:, None]
