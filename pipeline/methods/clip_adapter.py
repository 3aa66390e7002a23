"""CLIP-Adapter: a small residual MLP after the image tower (Gao et al. 2021).

f' = ratio * A(f) + (1 - ratio) * f with A(f) = ReLU(W_2 ReLU(W_1 f)), without biases, D -> D/4 -> D. f' is then
normalized and scored against the zero-shot text features. SHIP Table 1 has it in the rows `CLIP-Adapter` and
`CLIP-Adapter + SHIP`.

Neither paper's code has the training settings of these rows. The README of CLIP-Adapter (08d07f8, read 2026-11) points
to CoOp's command (SGD 0.002, momentum 0.9, batches of 32, 50, 100 or 200 epochs). The defaults here are this project's
own: AdamW 0.001, cosine decay, batches of 256, 200 epochs.

The paper searches the ratio for each data set and does not say on which images. Here `ratios` are compared on
validation images: one adapter is trained for each ratio, all in one loop, from the same weights and on the same
batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.methods._templates import TemplatedMethod
from pipeline.methods._validation import best_on_validation, count_correct
from pipeline.methods.base import Classifier, FitData, ViewFamily, everything_scored, scale_of
from pipeline.training.log import Search, report_search
from pipeline.training.loop import Batches, cosine, descend, index_by_label, trained_classes


def adapt(features: Tensor, down: Tensor, up: Tensor, ratio: Tensor) -> Tensor:
    """Return unit features mixed with their adapted form, normalized.

    Args:
        features: (N, D) unit rows.
        down: (H, D), or (R, H, D) for R adapters at once.
        up: (D, H), or (R, D, H).
        ratio: (), or (R, 1, 1).

    Returns:
        (N, D), or (R, N, D).
    """
    adapted = F.relu(F.relu(features @ down.mT) @ up.mT)
    return F.normalize(ratio * adapted + (1 - ratio) * features, dim=-1)


@dataclass(frozen=True)
class AdapterClassifier(Classifier):
    """A classifier with logits = logit_scale * f' w^T.

    Attributes:
        weights: (C, D) zero-shot text features.
        down: (H, D) first layer of the adapter.
        up: (D, H) second layer.
        ratio: () share of the adapted feature.
    """

    weights: Tensor
    down: Tensor
    up: Tensor
    ratio: Tensor

    def _logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        return self.logit_scale * adapt(features, self.down, self.up, self.ratio) @ self.weights[class_ids].T


Share = Annotated[float, Field(ge=0, le=1)]


class ClipAdapter(TemplatedMethod):
    """Settings of CLIP-Adapter."""

    classifier: ClassVar[type[Classifier]] = AdapterClassifier

    reduction: Annotated[int, Field(ge=1)] = 4  # D -> D / reduction -> D (paper)
    ratio: Share = 0.2  # share of the adapted feature, if no ratio is searched (official code)
    ratios: Annotated[list[Share], Field(min_length=1)] | None = None  # shares compared on validation; null: no search
    epochs: Annotated[int, Field(ge=1)] = 200  # passes over the training images
    batch: Annotated[int, Field(ge=1)] = 256  # real images per step
    learning_rate: Annotated[float, Field(gt=0)] = 0.001  # AdamW, cosine decay per step
    synthetic_ratio: Annotated[float, Field(ge=0)] = 1.0  # synthetic features per real one in a step (SHIP section 4.1)
    view_family: ViewFamily = None  # stored views to learn from; null: the first family

    def fit(self, data: FitData) -> AdapterClassifier:
        """Train both layers; the text features stay as they are.

        Of several ratios the best on validation is returned, the first of them on a tie.
        """
        data = self.with_templates(data)
        d = data.train.features.shape[-1]
        device = data.train.features.device
        tried = self.ratios if self.ratios and len(data.validation) else [self.ratio]
        ratios = torch.tensor(tried, device=device)[:, None, None]

        # The same start for every ratio, so that only the ratio differs.
        down = _initial_linear(d // self.reduction, d, data.rng).to(device)
        up = _initial_linear(d, d // self.reduction, data.rng).to(device)
        downs = nn.Parameter(down.repeat(len(tried), 1, 1))
        ups = nn.Parameter(up.repeat(len(tried), 1, 1))

        ids = trained_classes(data.classes, data.synthetic)
        target = index_by_label(ids, len(data.classes))
        weights = data.classes.text_features[ids]
        scale = scale_of(data.classes)

        def loss(features: Tensor, labels: Tensor) -> Tensor:
            logits = scale * adapt(features, downs, ups, ratios) @ weights.T  # (R, B, T)
            mean = F.cross_entropy(logits.flatten(0, 1), target[labels].repeat(len(tried)))
            return len(tried) * mean  # the sum over adapters, so that each gets the gradient of its own loss alone

        batches = Batches(data.train, data.synthetic, self.epochs, self.batch, self.synthetic_ratio, data.rng)
        descend(batches, loss, torch.optim.AdamW([downs, ups], self.learning_rate), cosine(batches.steps))

        fitted = [
            AdapterClassifier(
                scale,
                everything_scored(data.classes),
                weights=data.classes.text_features,
                down=down,
                up=up,
                ratio=ratio.squeeze(),
            )
            for down, up, ratio in zip(downs.detach(), ups.detach(), ratios, strict=True)
        ]
        best = best_on_validation(
            (i, count_correct(classifier, data.validation, data.classes.seen_ids))
            for i, classifier in enumerate(fitted)
        )
        if len(tried) > 1:
            report_search(Search("ratio", tried[best], min(tried), max(tried)))
        return fitted[best]


def _initial_linear(outputs: int, inputs: int, rng: torch.Generator) -> Tensor:
    """Return (outputs, inputs) as torch initialises a Linear: U(-1/sqrt(inputs), 1/sqrt(inputs)), drawn from `rng`."""
    sample: Tensor = 2 * torch.rand(outputs, inputs, generator=rng) - 1
    scaled: Tensor = sample * inputs**-0.5
    return scaled
