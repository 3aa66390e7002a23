"""CoCoOp: a learned context that a small net shifts for each image (Zhou et al. 2022, "Conditional", section 3.2).

v_m(x) = v_m + h(x). The Meta-Net h is Linear D -> D/16, ReLU, Linear -> W on the unit image feature, and gives one
shift for all M vectors. So each image has its own text feature of every class. It is the row `CoCoOp` of SHIP Table 1
and of CoCoOp Tables 1 to 3.

Prompts pass through the tower in parts of bounded size, and their intermediate values are computed again on the way
back, so memory does not grow with the number of classes. Differs from the official code (CoOp ff61507, read 2026-11):
float32 (the code: float16); stored views (the code: fresh crops). No paper reports it with synthetic features; a step
then has one real image and one synthetic feature.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from features.text.text_tower import TextTower
from pipeline.methods._prompt_learning import class_weights, dassl_sgd, initial_context, initial_linear
from pipeline.methods.base import Classifier, FitData, Method, ViewFamily, everything_scored, required_tower, scale_of
from pipeline.training.loop import Batches, index_by_label, minimise, trained_classes

IMAGES_PER_PASS = 64  # images whose text features are held at a time


@dataclass(frozen=True)
class CoCoOpClassifier(Classifier):
    """A classifier with logits = logit_scale * f w(f)^T, where w(f) are text features of prompts made for image f.

    Attributes:
        tokens: (C, T) int64 of the class names; on the host once the classifier has its text tower.
        context: (M, W) shared context vectors.
        down: (H, D) first layer of the Meta-Net, H = D/16.
        down_bias: (H,).
        up: (W, H) second layer of the Meta-Net.
        up_bias: (W,).
        tower: the text tower, not part of what is saved; None until `with_text_tower`.
    """

    tokens: Tensor
    context: Tensor
    down: Tensor
    down_bias: Tensor
    up: Tensor
    up_bias: Tensor
    tower: TextTower | None = None

    def with_text_tower(self, tower: TextTower) -> Self:
        """Return the same classifier with the text tower that it scores with."""
        return replace(self, tower=tower, tokens=self.tokens.cpu())

    @property
    def dimension(self) -> int:
        """Return D of the features that it scores."""
        return self.down.shape[1]

    def contexts(self, features: Tensor) -> Tensor:
        """Return the context (N, M, W) of each of the unit features (N, D)."""
        hidden = F.relu(F.linear(features, self.down, self.down_bias))
        shift = F.linear(hidden, self.up, self.up_bias)  # (N, W)
        return self.context + shift[:, None]

    def _logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        return self.token_logits(features, self.tokens[class_ids.cpu()])

    def token_logits(self, features: Tensor, names: Tensor) -> Tensor:
        """Return logits (N, M) of unit features (N, D) for the classes with the tokens `names` (M, T)."""
        tower = required_tower(self.tower)
        logits = []
        for part in torch.split(features, IMAGES_PER_PASS):
            weights = class_weights(tower, self.contexts(part), names)  # (n, M, D)
            logits.append(self.logit_scale * (weights @ part[..., None]).squeeze(-1))
        return torch.cat(logits)


class CoCoOp(Method):
    """Settings of CoCoOp."""

    classifier: ClassVar[type[Classifier]] = CoCoOpClassifier
    needs_text_tower: ClassVar[bool] = True
    scores_with_text_tower: ClassVar[bool] = True

    init: str | None = "a photo of a"  # words the context starts from (section 4); null: N(0, 0.02^2)
    context: Annotated[int, Field(ge=1, le=16)] = 4  # M, context vectors (section 4)
    reduction: Annotated[int, Field(ge=1)] = 16  # the Meta-Net's hidden layer is D / reduction wide (section 3.2)
    epochs: Annotated[int, Field(ge=1)] = 10  # passes over the training images (section 4)
    batch: Annotated[int, Field(ge=1)] = 1  # real images per step (section 4)
    learning_rate: Annotated[float, Field(gt=0)] = 0.002  # SGD, momentum 0.9, weight decay 5e-4, CoOp's schedule
    synthetic_ratio: Annotated[float, Field(ge=0)] = 1.0  # synthetic features per real one in a step (SHIP section 4.1)
    view_family: ViewFamily = None  # stored views to learn from; null: the first family

    def fit(self, data: FitData) -> CoCoOpClassifier:
        """Train the context and the Meta-Net together."""
        classes, tower = data.classes, data.text_tower
        learned = self._start(tower, data.train.features.shape[-1], data.rng)
        ids = trained_classes(classes, data.synthetic)
        names = classes.tokens_of(ids)
        model = CoCoOpClassifier(
            scale_of(classes), everything_scored(classes), tokens=classes.tokens, **learned, tower=tower
        )

        def logits(features: Tensor) -> Tensor:
            return model.token_logits(features, names)

        batches = Batches(
            data.train, data.synthetic, self.epochs, self.batch, self.synthetic_ratio, data.rng, drop_last=True
        )
        optimizer, rate = dassl_sgd(list(learned.values()), batches, self.learning_rate)
        minimise(batches, logits, index_by_label(ids, len(classes)), optimizer, rate)

        final: dict[str, Any] = {name: value.detach() for name, value in learned.items()}
        return replace(model, **final)

    def _start(self, tower: TextTower, d: int, rng: torch.Generator) -> dict[str, nn.Parameter]:
        """Return the context from words, and the Meta-Net as torch initialises a Linear."""
        hidden = max(1, d // self.reduction)

        down, down_bias = initial_linear(hidden, d, rng)
        up, up_bias = initial_linear(tower.config.width, hidden, rng)
        context = initial_context(tower, self.init, self.context, rng, method="cocoop")[0]

        start = {"context": context, "down": down, "down_bias": down_bias, "up": up, "up_bias": up_bias}
        return {name: nn.Parameter(value.to(tower.device)) for name, value in start.items()}
