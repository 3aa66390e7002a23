"""CoOp: learn the words around the class name (Zhou et al. 2022, section 2.2).

Prompt: `[SOS] v_1 .. v_M [class] . [EOS]`, the M context vectors shared by all classes; or with the class after the
first half of them or before all, or with M vectors for each class (CoOp section 2.2, "CSC"). Reproduces the rows `CoOp`
and, with synthetic features of the unseen classes, `CoOp + SHIP` of SHIP Table 1; CoOp Figures 3 and 5 with M = 16, end
or middle, unified or class-specific.

Two recipes, for the papers' codes differ:
- `ship`: SGD 0.002 without momentum or weight decay, cosine to 0 a step, 200 epochs, 256 real images a step.
- `coop`: SGD 0.002, momentum 0.9, weight decay 5e-4, cosine an epoch after one warm-up epoch at 1e-5, 32 images a step,
  50, 100 or 200 epochs for 1, up to 4 or more shots (Dassl's schedule; fp32 here where CoOp's code used fp16).
In both the loss ranges over the seen classes, or over all when synthetic features are given. A class-specific context
without features of its class stays at its start, so such a class cannot be scored. CoOp's code ignores `class_specific`
where words initialise the context; here each class starts from the words.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from features.text.text_tower import TextTower
from pipeline.methods._prompt_learning import Position, class_weights, dassl_sgd, initial_context
from pipeline.methods.base import Classifier, FitData, Method, PromptedClassifier, everything_scored, scale_of
from pipeline.training.loop import Batches, Rate, cosine, index_by_label, minimise, trained_classes


class CoOp(Method):
    """Settings of CoOp; a null takes the recipe's value."""

    classifier: ClassVar[type[Classifier]] = PromptedClassifier
    needs_text_tower: ClassVar[bool] = True

    init: str | None = "a photo of a"  # words the context starts from (CoCoOp section 4); null: N(0, 0.02^2)
    context: Annotated[int, Field(ge=1, le=60)] = 4  # M, context vectors (CoOp 16, CoCoOp and SHIP 4; its Table 5: 60)
    # end | middle | front: where the class name stands among them (CoOp Eq. 2 and 4)
    class_token_position: Position = "end"  # noqa: S105 (a word of the prompt, not a password)
    class_specific: bool = False  # M vectors for each class (CoOp section 2.2, CSC)
    recipe: Literal["ship", "coop"] = "ship"
    epochs: Annotated[int, Field(ge=1)] | None = None  # passes over the training images
    batch: Annotated[int, Field(ge=1)] | None = None  # real images a step
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    synthetic_ratio: Annotated[float, Field(ge=0)] = 1.0  # synthetic features a real one in a step (SHIP section 4.1)

    def fit(self, data: FitData) -> PromptedClassifier:
        """Train the context; the classifier is the text features of the learned prompts, one a class."""
        context = nn.Parameter(self.initial_context(data.text_tower, data.rng, len(data.classes)))
        ids = trained_classes(data.classes, data.synthetic)
        scale, names = scale_of(data.classes), data.classes.tokens_of(ids)

        def logits(features: Tensor) -> Tensor:
            return scale * features @ self._weights(data.text_tower, context, names, ids).T

        shots = len(data.train) // max(len(data.classes.seen_ids), 1)
        batches = Batches(data.train, data.synthetic, *self._length(shots), self.synthetic_ratio, data.rng)
        minimise(batches, logits, index_by_label(ids, len(data.classes)), *self._optimizer(context, batches))
        scored = everything_scored(data.classes)
        if self.class_specific:
            scored = torch.zeros_like(scored).index_fill(0, ids, value=True)
        with torch.no_grad():
            everyone = torch.arange(len(data.classes), device=ids.device)
            weights = self._weights(data.text_tower, context, data.classes.tokens, everyone)
        return PromptedClassifier(scale, scored, weights=weights, context=context.detach())

    def initial_context(self, tower: TextTower, rng: torch.Generator, classes: int) -> Tensor:
        """(1, M, W), or (C, M, W) if class-specific: the embeddings of `init`, or noise.

        Raises:
            InputError: `init` is not M tokens long.
        """
        contexts = classes if self.class_specific else 1
        return initial_context(tower, self.init, self.context, rng, method="coop", contexts=contexts)

    def _weights(self, tower: TextTower, context: Tensor, names: Tensor, ids: Tensor) -> Tensor:
        """(T, D) unit text features of the classes `ids` (T,), whose tokens are `names`."""
        if self.class_specific:
            return class_weights(tower, context[ids], names[:, None], self.class_token_position)[:, 0]
        return class_weights(tower, context, names, self.class_token_position)[0]

    def _length(self, shots: int) -> tuple[int, int]:
        """(epochs, real images a step)."""
        if self.recipe == "ship":
            return self.epochs or 200, self.batch or 256
        return self.epochs or (50 if shots <= 1 else 100 if shots <= 4 else 200), self.batch or 32

    def _optimizer(self, context: nn.Parameter, batches: Batches) -> tuple[torch.optim.Optimizer, Rate]:
        rate = self.learning_rate or 0.002
        if self.recipe == "ship":
            return torch.optim.SGD([context], rate), cosine(batches.steps)
        return dassl_sgd([context], batches, rate)
