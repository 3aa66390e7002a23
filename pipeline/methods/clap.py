"""CLAP: a linear probe that starts at the zero-shot weights and is held near them (Silva-Rodriguez et al. 2024).

Loss = cross-entropy + the mean over classes of lambda_c |w_c - t_c|^2. lambda_c is the zero-shot probability of the
right class, averaged over the training views of class c: the better zero-shot CLIP knows a class, the more its weight
is held. The weights are normalized when they score. The paper's few-shot comparison has it in the rows "CLAP". A class
without features keeps its zero-shot weight.

The paper sums the constraint over classes, its code averages it (`reduction`). As in the code (dbdf409, read 2026-11)
the weights start at the length of the text tower's features, a step takes its batch from all views of all images, and
there are N / batch steps in an epoch, at least one. Differs from it: the stored views, of which one is the centre crop
(the code: 20 augmented crops).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.methods._affine import class_means, concat_real_synthetic
from pipeline.methods._templates import TemplatedMethod
from pipeline.methods.base import Classifier, FitData, LinearClassifier, ViewFamily, everything_scored, scale_of
from pipeline.training.loop import Batches, descend, index_by_label, trained_classes, warm_cosine

Reduction = Literal["mean", "sum"]


class Clap(TemplatedMethod):
    """Settings of CLAP."""

    classifier: ClassVar[type[Classifier]] = LinearClassifier
    unit_templates: ClassVar[bool] = False  # code

    reduction: Reduction = "mean"  # of the constraint over classes (code: mean, paper: sum)
    epochs: Annotated[int, Field(ge=1)] = 300  # passes over the training images (official config)
    batch: Annotated[int, Field(ge=1)] = 256  # real images per step (official config)
    learning_rate: Annotated[float, Field(gt=0)] = 0.1  # SGD, momentum 0.9, one epoch at 1e-5, cosine (official config)
    synthetic_ratio: Annotated[float, Field(ge=0)] = 1.0  # synthetic features per real one in a step (SHIP section 4.1)
    view_family: ViewFamily = None  # stored views to learn from; null: the first family

    def fit(self, data: FitData) -> LinearClassifier:
        """Train the weights of the classes that have features."""
        data = self.with_templates(data)
        ids = trained_classes(data.classes, data.synthetic)
        target = index_by_label(ids, len(data.classes))
        scale = scale_of(data.classes)
        start = data.classes.unnormalized_text[ids]
        weights = nn.Parameter(start.clone())

        features, labels = concat_real_synthetic(data, every_view=True)
        zero_shot = scale * features @ data.classes.text_features[ids].T
        multipliers = class_multipliers(zero_shot, target[labels])

        def loss(features: Tensor, labels: Tensor) -> Tensor:
            logits = scale * features @ F.normalize(weights, dim=-1).T
            penalty = constraint(weights, start, multipliers, self.reduction)
            return F.cross_entropy(logits, target[labels]) + penalty

        batches = Batches(
            data.train,
            data.synthetic,
            self.epochs,
            self.batch,
            self.synthetic_ratio,
            data.rng,
            drop_last=True,
            mix_views=True,
        )
        optimizer = torch.optim.SGD([weights], self.learning_rate, momentum=0.9)
        descend(batches, loss, optimizer, warm_cosine(batches, self.learning_rate))

        final = data.classes.text_features.index_copy(0, ids, F.normalize(weights.detach(), dim=-1))
        return LinearClassifier(scale, everything_scored(data.classes), weights=final)


def class_multipliers(zero_shot: Tensor, labels: Tensor) -> Tensor:
    """Return lambda (C,): the mean probability of the right class over the rows of each class.

    Args:
        zero_shot: (N, C) zero-shot logits.
        labels: (N,) in 0 .. C - 1.
    """
    return class_means(zero_shot.softmax(-1), labels, zero_shot.shape[1]).diagonal()


def constraint(weights: Tensor, start: Tensor, multipliers: Tensor, reduction: Reduction) -> Tensor:
    """Return lambda_c |w_c - t_c|^2, averaged or summed over classes: ().

    Args:
        weights: (C, D) w.
        start: (C, D) t.
        multipliers: (C,) lambda.
        reduction: over classes.
    """
    penalties = multipliers * (weights - start).square().sum(-1)
    return penalties.mean() if reduction == "mean" else penalties.sum()
