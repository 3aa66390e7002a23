"""CLIP-Adapter: a small residual MLP after the image tower (Gao et al. 2021).

f' = ratio * A(f) + (1 - ratio) * f with A(f) = ReLU(W_2 ReLU(W_1 f)), no biases, D -> D/4 -> D; then f' is normalised
and scored against the zero-shot text features. Reproduces the rows `CLIP-Adapter` and `CLIP-Adapter + SHIP` of SHIP
Table 1; neither paper's code gives the training settings for them, so these are ours.

The paper searches the ratio for each data set, without saying on which images: `ratios` are tried on validation. An
adapter is trained for each of them, all in one loop, from the same weights and on the same batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.methods.base import Classifier, FitData, Method, everything_scored, scale_of
from pipeline.training.data import LabelledFeatures
from pipeline.training.loop import Batches, cosine, descend, index_by_label, trained_classes


def adapted(features: Tensor, down: Tensor, up: Tensor, ratio: Tensor) -> Tensor:
    """Mix unit features (N, D) with their adapted selves: down (H, D), up (D, H), ratio (); unit rows (N, D).

    Of R adapters at once, down (R, H, D), up (R, D, H), ratio (R, 1, 1): (R, N, D).
    """
    mixed = ratio * F.relu(F.relu(features @ down.mT) @ up.mT) + (1 - ratio) * features
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


Share = Annotated[float, Field(ge=0, le=1)]


class ClipAdapter(Method):
    """Settings of CLIP-Adapter."""

    classifier: ClassVar[type[Classifier]] = AdapterClassifier

    reduction: Annotated[int, Field(ge=1)] = 4  # D -> D / reduction -> D (paper)
    ratio: Share = 0.2  # share of the adapted feature, where none is searched (official code)
    ratios: Annotated[list[Share], Field(min_length=1)] | None = None  # shares tried on validation; null: none
    epochs: Annotated[int, Field(ge=1)] = 200  # passes over the training images (CoOp's schedule)
    batch: Annotated[int, Field(ge=1)] = 256  # real images a step
    learning_rate: Annotated[float, Field(gt=0)] = 0.001  # AdamW, cosine decay a step
    synthetic_ratio: Annotated[float, Field(ge=0)] = 1.0  # synthetic features a real one in a step (SHIP section 4.1)

    def fit(self, data: FitData) -> AdapterClassifier:
        """Train both layers; text features stay as they are. Of ratios that tie on validation the first is taken."""
        d, device = data.train.features.shape[-1], data.train.features.device
        tried = self.ratios if self.ratios and len(data.validation) else [self.ratio]
        ratios = torch.tensor(tried, device=device)[:, None, None]
        down, up = (
            _uniform(d // self.reduction, d, data.rng).to(device),
            _uniform(d, d // self.reduction, data.rng).to(device),
        )
        downs, ups = (nn.Parameter(layer.repeat(len(tried), 1, 1)) for layer in (down, up))
        ids, scale = trained_classes(data.classes, data.synthetic), scale_of(data.classes)
        target, weights = index_by_label(ids, len(data.classes)), data.classes.text_features[ids]

        def loss(features: Tensor, labels: Tensor) -> Tensor:
            scores = scale * adapted(features, downs, ups, ratios) @ weights.T
            mean = F.cross_entropy(scores.flatten(0, 1), target[labels].repeat(len(tried)))
            return len(tried) * mean  # the sum over adapters: each learns as if it were alone

        batches = Batches(data.train, data.synthetic, self.epochs, self.batch, self.synthetic_ratio, data.rng)
        descend(batches, loss, torch.optim.AdamW([downs, ups], self.learning_rate), cosine(batches.steps))
        everyone = everything_scored(data.classes)
        fitted = [
            AdapterClassifier(
                scale, everyone, weights=data.classes.text_features, down=down, up=up, ratio=ratio.squeeze()
            )
            for down, up, ratio in zip(downs.detach(), ups.detach(), ratios, strict=True)
        ]
        return max(fitted, key=lambda one: _right(one, data.validation, data.classes.seen_ids))


def _right(fitted: AdapterClassifier, validation: LabelledFeatures, candidates: Tensor) -> int:
    """How many validation images are told right among the classes `candidates` (S,)."""
    chosen = candidates[fitted.logits(validation.centre, candidates).argmax(1)]
    return int((chosen == validation.labels).sum())


def _uniform(rows: int, columns: int, rng: torch.Generator) -> Tensor:
    """(rows, columns): torch's initial values of a Linear, U(-1/sqrt(columns), 1/sqrt(columns)), from `rng`."""
    sample: Tensor = 2 * torch.rand(rows, columns, generator=rng) - 1
    scaled: Tensor = sample * columns**-0.5
    return scaled
