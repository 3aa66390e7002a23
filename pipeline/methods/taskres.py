"""TaskRes: a residual beside each class's frozen text feature (Yu et al. 2023).

t' = t + alpha * x, then normalised; x starts at 0. Reproduces the rows "TaskRes" (regular base) of the paper's few-shot
comparison. A class without features keeps x = 0, its zero-shot weight.

As in the official code t is as long as the text tower gives it; its length is taken from the bare class name, for a
task keeps directions alone. Differs from the code: fp32, and stored views for fresh augmentations.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.methods._unnormalized_text import at_raw_length
from pipeline.methods.base import Classifier, FitData, LinearClassifier, Method, everything_scored, scale_of
from pipeline.training.loop import Batches, index_by_label, minimise, trained_classes, warm_cosine


class TaskRes(Method):
    """Settings of TaskRes."""

    classifier: ClassVar[type[Classifier]] = LinearClassifier
    needs_text_tower: ClassVar[bool] = True

    alpha: Annotated[float, Field(gt=0)] = 0.5  # scale of the residual (paper; 1.0 for Flowers102)
    epochs: Annotated[int, Field(ge=1)] | None = None  # passes over the images; null: 200, below 8 shots 100 (paper)
    batch: Annotated[int, Field(ge=1)] = 256  # real images a step (official config)
    learning_rate: Annotated[float, Field(gt=0)] = 0.002  # Adam, one epoch at 1e-5, cosine (ImageNet and SUN397 2e-4)
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4  # Adam's L2 term (the code: Dassl's default)
    synthetic_ratio: Annotated[float, Field(ge=0)] = 1.0  # synthetic features a real one in a step (SHIP section 4.1)

    def fit(self, data: FitData) -> LinearClassifier:
        """Train the residuals of the classes that have features."""
        ids, scale = trained_classes(data.classes, data.synthetic), scale_of(data.classes)
        base = at_raw_length(data.classes, data.text_tower)[ids]
        residual = nn.Parameter(torch.zeros_like(base))

        def logits(features: Tensor) -> Tensor:
            return scale * features @ shifted(base, residual, self.alpha).T

        shots = len(data.train) // max(len(data.classes.seen_ids), 1)
        epochs = self.epochs or (200 if shots >= 8 else 100)
        batches = Batches(data.train, data.synthetic, epochs, self.batch, self.synthetic_ratio, data.rng)
        optimizer = torch.optim.Adam([residual], self.learning_rate, weight_decay=self.weight_decay)
        minimise(batches, logits, index_by_label(ids, len(data.classes)), optimizer, warm_cosine(batches, self.learning_rate))
        weights = data.classes.text_features.index_copy(0, ids, shifted(base, residual.detach(), self.alpha))
        return LinearClassifier(scale, everything_scored(data.classes), weights=weights)


def shifted(base: Tensor, residual: Tensor, alpha: float) -> Tensor:
    """Unit rows of base + alpha * residual, all (C, D)."""
    return F.normalize(base + alpha * residual, dim=-1)
