"""TaskRes: a learned residual on each class's frozen text feature (Yu et al. 2023).

t' = t + alpha * x, then normalized; x starts at 0. The paper's few-shot comparison has it in the rows "TaskRes"
(regular base). A class without features keeps x = 0, which is its zero-shot weight.

As in the official code t has the length of the text tower's output. Differs from the code (5195359, read 2026-11):
stored views (the code: fresh crops).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.methods._templates import TemplatedMethod
from pipeline.methods.base import Classifier, FitData, LinearClassifier, ViewFamily, everything_scored, scale_of
from pipeline.training.loop import Batches, index_by_label, minimise, trained_classes, warm_cosine


class TaskRes(TemplatedMethod):
    """Settings of TaskRes."""

    classifier: ClassVar[type[Classifier]] = LinearClassifier
    unit_templates: ClassVar[bool] = False  # code

    alpha: Annotated[float, Field(gt=0)] = 0.5  # scale of the residual (script; 1.0 for Flowers102)
    epochs: Annotated[int, Field(ge=1)] | None = None  # passes over the images; null: 200, below 8 shots 100 (paper)
    batch: Annotated[int, Field(ge=1)] = 256  # real images per step (official config)
    learning_rate: Annotated[float, Field(gt=0)] = 0.002  # Adam, one epoch at 1e-5, cosine (script; ImageNet 2e-4)
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4  # Adam's L2 term (the code: Dassl's default)
    synthetic_ratio: Annotated[float, Field(ge=0)] = 1.0  # synthetic features per real one in a step (SHIP section 4.1)
    view_family: ViewFamily = None  # stored views to learn from; null: the first family

    def fit(self, data: FitData) -> LinearClassifier:
        """Train the residuals of the classes that have features."""
        data = self.with_templates(data)
        ids = trained_classes(data.classes, data.synthetic)
        target = index_by_label(ids, len(data.classes))
        scale = scale_of(data.classes)
        base = data.classes.unnormalized_text[ids]
        residual = nn.Parameter(torch.zeros_like(base))

        def logits(features: Tensor) -> Tensor:
            return scale * features @ add_residual(base, residual, self.alpha).T

        epochs = self.epochs or (200 if data.shots >= 8 else 100)
        batches = Batches(
            data.train, data.synthetic, epochs, self.batch, self.synthetic_ratio, data.rng, drop_last=True
        )
        optimizer = torch.optim.Adam([residual], self.learning_rate, weight_decay=self.weight_decay)
        minimise(batches, logits, target, optimizer, warm_cosine(batches, self.learning_rate))

        weights = data.classes.text_features.index_copy(0, ids, add_residual(base, residual.detach(), self.alpha))
        return LinearClassifier(scale, everything_scored(data.classes), weights=weights)


def add_residual(base: Tensor, residual: Tensor, alpha: float) -> Tensor:
    """Return the unit rows of base + alpha * residual; all are (C, D)."""
    return F.normalize(base + alpha * residual, dim=-1)
