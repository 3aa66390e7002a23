"""CLIP-Adapter: a small residual MLP after the image tower (Gao et al. 2021).

f' = ratio * A(f) + (1 - ratio) * f with A(f) = ReLU(W_2 ReLU(W_1 f)), no biases, D -> D/4 -> D; then f' is normalised
and scored against the zero-shot text features. Reproduces the rows `CLIP-Adapter` and `CLIP-Adapter + SHIP` of SHIP
Table 1; neither paper's code gives the training settings for them, so these are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from features.text_tower import TextTower
from pipeline.arrays import ClassSet, LabelledFeatures
from pipeline.methods.base import Classifier, Method, everything_scored, scale_of
from pipeline.training import Batches, cosine, minimise, places, trained_classes


def adapted(features: Tensor, down: Tensor, up: Tensor, ratio: Tensor) -> Tensor:
    """Mix unit features (N, D) with their adapted selves: down (H, D), up (D, H), ratio (); unit rows (N, D)."""
    mixed = ratio * F.relu(F.relu(features @ down.T) @ up.T) + (1 - ratio) * features
    return F.normalize(mixed, dim=-1)


@dataclass(frozen=True)
class AdapterClassifier(Classifier):
    """logits = logit_scale * f' w^T; weights (C, D) are the zero-shot text features."""

    weights: Tensor
    down: Tensor
    up: Tensor
    ratio: Tensor

    def _logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        return self.logit_scale * adapted(features, self.down, self.up, self.ratio) @ self.weights[class_ids].T


class ClipAdapter(Method):
    """Settings of CLIP-Adapter."""

    classifier: ClassVar[type[Classifier]] = AdapterClassifier

    reduction: Annotated[int, Field(ge=1)] = 4  # D -> D / reduction -> D (paper)
    ratio: Annotated[float, Field(ge=0, le=1)] = 0.2  # share of the adapted feature (official code)
    epochs: Annotated[int, Field(ge=1)] = 200  # passes over the training images (CoOp's schedule)
    batch: Annotated[int, Field(ge=1)] = 256  # real images a step
    learning_rate: Annotated[float, Field(gt=0)] = 0.001  # AdamW, cosine decay a step
    synthetic_ratio: Annotated[float, Field(ge=0)] = 1.0  # synthetic features a real one in a step (SHIP section 4.1)

    def fit(
        self,
        train: LabelledFeatures,
        classes: ClassSet,
        *,
        synthetic: LabelledFeatures | None,
        validation: LabelledFeatures,  # noqa: ARG002
        tower: TextTower | None,  # noqa: ARG002
        rng: torch.Generator,
    ) -> AdapterClassifier:
        """Train both layers; text features stay as they are."""
        d = train.features.shape[-1]
        device = train.features.device
        down = nn.Parameter(_uniform(d // self.reduction, d, rng).to(device))
        up = nn.Parameter(_uniform(d, d // self.reduction, rng).to(device))
        ids = trained_classes(classes, synthetic)
        scale, ratio = scale_of(classes), torch.tensor(self.ratio, device=device)
        weights = classes.text_features[ids]

        def logits(features: Tensor) -> Tensor:
            scores: Tensor = scale * adapted(features, down, up, ratio) @ weights.T
            return scores

        batches = Batches(train, synthetic, self.epochs, self.batch, self.synthetic_ratio, rng)
        optimizer = torch.optim.AdamW([down, up], self.learning_rate)
        minimise(batches, logits, places(ids, len(classes)), optimizer, cosine(batches.steps))
        return AdapterClassifier(
            scale,
            everything_scored(classes),
            weights=classes.text_features,
            down=down.detach(),
            up=up.detach(),
            ratio=ratio,
        )


def _uniform(rows: int, columns: int, rng: torch.Generator) -> Tensor:
    """(rows, columns): torch's initial values of a Linear, U(-1/sqrt(columns), 1/sqrt(columns)), from `rng`."""
    sample: Tensor = 2 * torch.rand(rows, columns, generator=rng) - 1
    scaled: Tensor = sample * columns**-0.5
    return scaled
