"""CoCoOp: a learned context that a small net shifts for each image (Zhou et al. 2022, "Conditional", section 3.2).

v_m(x) = v_m + h(x), with the Meta-Net h: Linear D -> D/16, ReLU, Linear -> W on the unit image feature, one shift for
all M vectors. Each image so has its own text features of every class. Reproduces the rows `CoCoOp` of SHIP Table 1 and
CoCoOp Tables 1 to 3.

Prompts pass through the tower in parts of bounded size, whose intermediate values are computed again on the way back,
so that memory does not grow with the number of classes. Differs from the official code: fp32, and stored views for
fresh augmentations. With synthetic features, which no paper reports, a step has one real image and one synthetic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from features.text.text_tower import TextTower
from pipeline.methods._prompt_learning import class_weights, dassl_sgd, first_linear, initial_context
from pipeline.methods.base import Classifier, FitData, Method, everything_scored, scale_of
from pipeline.training.loop import Batches, index_by_label, minimise, trained_classes

IMAGES = 64  # scored before their text features are let go


@dataclass(frozen=True)
class CoCoOpClassifier(Classifier):
    """logits = logit_scale * f w(f)^T, w(f) the text features of the prompts that image f asks for.

    Attributes:
        tokens: (C, T) of the class names; on the host, once bound.
        context: (M, W). down: (D/16, D), (D/16,) and up: (W, D/16), (W,) the Meta-Net.
        tower: once bound; not part of what is saved.
    """

    tokens: Tensor
    context: Tensor
    down: Tensor
    down_bias: Tensor
    up: Tensor
    up_bias: Tensor
    tower: TextTower | None = None

    def with_text_tower(self, tower: TextTower) -> Self:
        """With the tower that it scores with."""
        return replace(self, tower=tower, tokens=self.tokens.cpu())

    @property
    def dimension(self) -> int:
        """D of the features that it scores."""
        return self.down.shape[1]

    def contexts(self, features: Tensor) -> Tensor:
        """(N, M, W): the context of each of the unit features (N, D)."""
        shift = F.linear(F.relu(F.linear(features, self.down, self.down_bias)), self.up, self.up_bias)
        return self.context + shift[:, None]

    def _logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        return self.scores(features, self.tokens[class_ids.cpu()])

    def scores(self, features: Tensor, names: Tensor) -> Tensor:
        """(N, M) logits of unit features (N, D) for the classes of tokens `names` (M, T)."""
        assert self.tower is not None  # noqa: S101 (the pipeline binds it: scores_with_text_tower)
        scores = []
        for part in torch.split(features, IMAGES):
            weights = class_weights(self.tower, self.contexts(part), names)
            scores.append(self.logit_scale * (weights @ part[..., None]).squeeze(-1))
        return torch.cat(scores)


class CoCoOp(Method):
    """Settings of CoCoOp."""

    classifier: ClassVar[type[Classifier]] = CoCoOpClassifier
    needs_text_tower: ClassVar[bool] = True
    scores_with_text_tower: ClassVar[bool] = True

    init: str | None = "a photo of a"  # words the context starts from (section 4); null: N(0, 0.02^2)
    context: Annotated[int, Field(ge=1, le=16)] = 4  # M, context vectors (section 4)
    reduction: Annotated[int, Field(ge=1)] = 16  # the Meta-Net's hidden layer is D / reduction wide (section 3.2)
    epochs: Annotated[int, Field(ge=1)] = 10  # passes over the training images (section 4)
    batch: Annotated[int, Field(ge=1)] = 1  # real images a step (section 4)
    learning_rate: Annotated[float, Field(gt=0)] = 0.002  # SGD, momentum 0.9, weight decay 5e-4, CoOp's schedule
    synthetic_ratio: Annotated[float, Field(ge=0)] = 1.0  # synthetic features a real one in a step (SHIP section 4.1)

    def fit(self, data: FitData) -> CoCoOpClassifier:
        """Train the context and the Meta-Net together."""
        learned = self._start(data.text_tower, data.train.features.shape[-1], data.rng)
        ids = trained_classes(data.classes, data.synthetic)
        names = data.classes.tokens_of(ids)
        model = CoCoOpClassifier(
            scale_of(data.classes),
            everything_scored(data.classes),
            tokens=data.classes.tokens,
            **learned,
            tower=data.text_tower,
        )
        batches = Batches(data.train, data.synthetic, self.epochs, self.batch, self.synthetic_ratio, data.rng)
        optimizer = dassl_sgd(list(learned.values()), batches, self.learning_rate)
        minimise(batches, lambda features: model.scores(features, names), index_by_label(ids, len(data.classes)), *optimizer)
        final: dict[str, Any] = {name: value.detach() for name, value in learned.items()}
        return replace(model, **final)

    def _start(self, tower: TextTower, d: int, rng: torch.Generator) -> dict[str, nn.Parameter]:
        """Context from words, Meta-Net as torch's Linear starts."""
        hidden, device = max(1, d // self.reduction), tower.token_embedding.weight.device
        down, down_bias = first_linear(hidden, d, rng)
        up, up_bias = first_linear(tower.config.width, hidden, rng)
        context = initial_context(tower, self.init, self.context, rng, method="cocoop")[0]
        start = {"context": context, "down": down, "down_bias": down_bias, "up": up, "up_bias": up_bias}
        return {name: nn.Parameter(value.to(device)) for name, value in start.items()}
