"""CoOp: learn the words around the class name (Zhou et al. 2022, section 2.2).

The prompt is `[SOS] v_1 .. v_M [class] . [EOT]`, with M context vectors that all classes share. The class may also
stand after the first half of them or before all, and each class may have M vectors of its own (CoOp section 2.2,
"CSC"). It is the row `CoOp` of SHIP Table 1 and, with synthetic features of the unseen classes, `CoOp + SHIP`; also
CoOp's Figures 3 and 5 with M = 16, end or middle, unified or class-specific.

There are two recipes, because the codes of the two papers differ:
- `ship` (SHIP 492854e): SGD 0.002 without momentum or weight decay, cosine to 0 per step, 200 epochs, 256 real images
  per step.
- `coop` (CoOp ff61507, Dassl's schedule): SGD 0.002, momentum 0.9, weight decay 5e-4, cosine per epoch after one
  warm-up epoch at 1e-5, 32 images per step without the incomplete last batch; 50 epochs for 1 shot, 100 for up to 4,
  else 200.
In both the loss ranges over the seen classes, or over all classes when there are synthetic features. A class-specific
context of a class without features stays at its start, so such a class cannot be scored.

Differs from CoOp's code (read 2026-11): float32 (there: float16); each class starts from the words of `init` (there:
`class_specific` is ignored when words initialise the context); stored views (there: fresh crops).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from features.text.text_tower import Position, TextTower
from pipeline.methods._prompt_learning import class_weights, dassl_sgd, initial_context
from pipeline.methods.base import (
    Classifier,
    FitData,
    Method,
    PromptedClassifier,
    ViewFamily,
    everything_scored,
    scale_of,
)
from pipeline.training.loop import Batches, Rate, cosine, index_by_label, minimise, trained_classes


class CoOp(Method):
    """Settings of CoOp; null takes the value of the recipe."""

    classifier: ClassVar[type[Classifier]] = PromptedClassifier
    needs_text_tower: ClassVar[bool] = True

    init: str | None = "a photo of a"  # words the context starts from (CoCoOp section 4); null: N(0, 0.02^2)
    context: Annotated[int, Field(ge=1, le=60)] = 4  # M, context vectors (CoOp 16, CoCoOp and SHIP 4; its Table 5: 60)
    # end | middle | front: where the class name stands among them (CoOp Eq. 2 and 4)
    class_token_position: Position = "end"  # noqa: S105 (a word of the prompt, not a password)
    class_specific: bool = False  # M vectors for each class (CoOp section 2.2, CSC)
    recipe: Literal["ship", "coop"] = "ship"
    epochs: Annotated[int, Field(ge=1)] | None = None  # passes over the training images
    batch: Annotated[int, Field(ge=1)] | None = None  # real images per step
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    synthetic_ratio: Annotated[float, Field(ge=0)] = 1.0  # synthetic features per real one in a step (SHIP section 4.1)
    view_family: ViewFamily = None  # stored views to learn from; null: the first family

    def fit(self, data: FitData) -> PromptedClassifier:
        """Train the context; the classifier holds the text features of the learned prompts, one per class."""
        classes, tower = data.classes, data.text_tower
        context = nn.Parameter(self.initial_context(tower, data.rng, len(classes)))
        ids = trained_classes(classes, data.synthetic)
        names = classes.tokens_of(ids)
        scale = scale_of(classes)

        def logits(features: Tensor) -> Tensor:
            return scale * features @ self._weights(tower, context, names, ids).T

        epochs, batch = self._epochs_and_batch(data.shots)
        drop_last = self.recipe == "coop"  # Dassl's loader; SHIP's keeps the last batch
        batches = Batches(data.train, data.synthetic, epochs, batch, self.synthetic_ratio, data.rng, drop_last)
        minimise(batches, logits, index_by_label(ids, len(classes)), *self._optimizer(context, batches))

        scored = everything_scored(classes)
        if self.class_specific:
            scored = torch.zeros_like(scored).index_fill(0, ids, value=True)
        with torch.no_grad():
            all_ids = torch.arange(len(classes), device=ids.device)
            weights = self._weights(tower, context, classes.tokens, all_ids)
        return PromptedClassifier(scale, scored, weights=weights, context=context.detach())

    def initial_context(self, tower: TextTower, rng: torch.Generator, classes: int) -> Tensor:
        """Return (1, M, W), or (C, M, W) if class-specific: the embeddings of `init`, or noise.

        Raises:
            InputError: `init` is not M tokens long.
        """
        contexts = classes if self.class_specific else 1
        return initial_context(tower, self.init, self.context, rng, method="coop", contexts=contexts)

    def _weights(self, tower: TextTower, context: Tensor, names: Tensor, ids: Tensor) -> Tensor:
        """Return unit text features (T, D) of the classes `ids` (T,) with the tokens `names`."""
        if self.class_specific:
            return class_weights(tower, context[ids], names[:, None], self.class_token_position)[:, 0]
        return class_weights(tower, context, names, self.class_token_position)[0]

    def _epochs_and_batch(self, shots: int) -> tuple[int, int]:
        """Return the epochs and the real images per step of the recipe, or what the settings say instead."""
        if self.recipe == "ship":
            return self.epochs or 200, self.batch or 256
        by_shots = 50 if shots <= 1 else 100 if shots <= 4 else 200
        return self.epochs or by_shots, self.batch or 32

    def _optimizer(self, context: nn.Parameter, batches: Batches) -> tuple[torch.optim.Optimizer, Rate]:
        """Return the optimizer and the schedule of the recipe."""
        learning_rate = self.learning_rate or 0.002
        if self.recipe == "ship":
            return torch.optim.SGD([context], learning_rate), cosine(batches.steps)
        return dassl_sgd([context], batches, learning_rate)
