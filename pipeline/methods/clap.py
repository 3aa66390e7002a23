"""CLAP: a linear probe from the zero-shot weights, held near them class by class (Silva-Rodriguez et al. 2024).

Loss = cross-entropy + the mean over classes of lambda_c |w_c - t_c|^2, with lambda_c the zero-shot probability of the
right class, averaged over the training views of class c: a class that zero-shot CLIP knows well is held the more. The
weights are normalised when they score. Reproduces the rows "CLAP" of the paper's few-shot comparison. A class
without features keeps its zero-shot weight.

The paper sums over classes; its code averages (`reduction`). As in the code the weights start as long as the text tower
gives its features; the length is taken from the bare class name, for a task keeps directions alone. Differs from the
code: fp32, 10 stored views for 20 augmented ones, never an epoch judged on
test.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.methods._affine import class_means, concat_real_synthetic
from pipeline.methods._unnormalized_text import at_raw_length
from pipeline.methods.base import Classifier, FitData, LinearClassifier, Method, everything_scored, scale_of
from pipeline.training.loop import Batches, descend, index_by_label, trained_classes, warm_cosine


class Clap(Method):
    """Settings of CLAP."""

    classifier: ClassVar[type[Classifier]] = LinearClassifier
    needs_text_tower: ClassVar[bool] = True

    reduction: Literal["mean", "sum"] = "mean"  # of the constraint over classes (code mean, paper sum)
    epochs: Annotated[int, Field(ge=1)] = 300  # passes over the training images (official config)
    batch: Annotated[int, Field(ge=1)] = 256  # real images a step (official config)
    learning_rate: Annotated[float, Field(gt=0)] = 0.1  # SGD, momentum 0.9, one epoch at 1e-5, cosine (official config)
    synthetic_ratio: Annotated[float, Field(ge=0)] = 1.0  # synthetic features a real one in a step (SHIP section 4.1)

    def fit(self, data: FitData) -> LinearClassifier:
        """Train the weights of the classes that have features."""
        ids, scale = trained_classes(data.classes, data.synthetic), scale_of(data.classes)
        target = index_by_label(ids, len(data.classes))
        start = at_raw_length(data.classes, data.text_tower)[ids]
        weights = nn.Parameter(start.clone())
        features, labels = concat_real_synthetic(data.train, data.synthetic, data.classes, every_view=True)
        held = multipliers(scale * features @ data.classes.text_features[ids].T, target[labels])

        def loss(features: Tensor, labels: Tensor) -> Tensor:
            scores = scale * features @ F.normalize(weights, dim=-1).T
            return F.cross_entropy(scores, target[labels]) + constraint(weights, start, held, self.reduction)

        batches = Batches(data.train, data.synthetic, self.epochs, self.batch, self.synthetic_ratio, data.rng)
        optimizer = torch.optim.SGD([weights], self.learning_rate, momentum=0.9)
        descend(batches, loss, optimizer, warm_cosine(batches, self.learning_rate))
        final = data.classes.text_features.index_copy(0, ids, F.normalize(weights.detach(), dim=-1))
        return LinearClassifier(scale, everything_scored(data.classes), weights=final)


def multipliers(zero_shot: Tensor, labels: Tensor) -> Tensor:
    """(C,) mean probability of the right class over its rows: zero-shot logits (N, C), labels (N,)."""
    return class_means(zero_shot.softmax(-1), labels, zero_shot.shape[1]).diagonal()


def constraint(weights: Tensor, start: Tensor, held: Tensor, reduction: Literal["mean", "sum"]) -> Tensor:
    """held_c |w_c - t_c|^2, averaged or summed over classes: weights and start (C, D), held (C,)."""
    squared = held * (weights - start).square().sum(-1)
    return squared.mean() if reduction == "mean" else squared.sum()
