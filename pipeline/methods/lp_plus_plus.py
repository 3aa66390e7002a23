"""LP++: a linear probe with a visual prototype plus a learned multiple of the text per class (Huang et al. 2024).

logits_k = f^T (w_k + alpha_k t_k) + b_k with unit f and t; cross-entropy over all images at once. w_k starts at the sum
of its class's features, alpha at 250 times the mean cosine between an image and its own text. Both step sizes come from
bounds on the curvature of the loss: 4 N / the largest eigenvalue of F^T F for w and b (momentum 0.9), and
N / (4 max_k sum_i (f_i^T t_k)^2) for alpha, which moves every tenth step. Nothing is tuned. The paper's few-shot
comparison has it in the rows "LP++". Alone it cannot score classes without images.

The step that is best on validation is returned, the last one on a tie (code).

Differs from the code (f81054f, read 2026-11): b starts at 0 (the code: at noise); alpha follows the current gradient,
as in the paper (the code: the sum of all gradients so far); features are those of the centre crops (the code: of one
augmented crop); float32 (the code: float16). All validation images are used (the code: as many per class as shots, and
for ImageNet some cut from the training images; see `validation_shots` and `validation_from`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from features.errors import InputError
from pipeline.methods._affine import AffineClassifier, affine_classifier, class_means, concat_real_synthetic
from pipeline.methods._templates import TemplatedMethod
from pipeline.methods._validation import best_on_validation, budgeted, count_correct
from pipeline.methods.base import Classifier, FitData
from pipeline.training.loop import index_by_label, trained_classes


class LpPlusPlus(TemplatedMethod):
    """Settings of LP++."""

    classifier: ClassVar[type[Classifier]] = AffineClassifier

    # validation images per class at most, and no more than shots; null: all (code: as many as shots)
    validation_shots: Annotated[int, Field(ge=1)] | None = None
    steps: Annotated[int, Field(ge=1)] = 300  # steps over all images at once (official config)
    alpha_every: Annotated[int, Field(ge=1)] = 10  # steps of w between two steps of alpha (code)

    def fit(self, data: FitData) -> AffineClassifier:
        """Descend, and return the best step on validation, or the last step without validation images.

        Raises:
            InputError: the weights are not finite.
        """
        data = self.with_templates(data)
        validation = budgeted(data, self.validation_shots)
        ids = trained_classes(data.classes, data.synthetic)
        features, labels = concat_real_synthetic(data)
        probe = Probe(features, index_by_label(ids, len(data.classes))[labels], data.classes.text_features[ids])

        def steps() -> Iterator[tuple[AffineClassifier, int]]:
            for step in range(1, self.steps + 1):
                probe.step(move_alpha=step % self.alpha_every == 0)
                classifier = affine_classifier(data.classes, ids, *probe.weights())
                yield classifier, count_correct(classifier, validation, data.classes.seen_ids)

        best = best_on_validation(steps(), ties="last")
        if not bool(best.weights.isfinite().all()):
            raise InputError("methods.lp_plus_plus: weights are not finite; check for features of length 0")
        return best


class Probe:
    """The state of the descent.

    Attributes:
        features: (N, D) unit rows.
        labels: (N,) in 0 .. C - 1.
        texts: (C, D) unit rows t.
        w: (C, D) visual prototypes.
        b: (C,) biases.
        alpha: (C,) multiples of the texts.
        rate: () step size of w and b.
        alpha_rate: () step size of alpha.
        momentum: moving sums of the gradients of w and b.
    """

    def __init__(self, features: Tensor, labels: Tensor, texts: Tensor) -> None:
        """Start w, b and alpha, and compute both step sizes."""
        self.features, self.labels, self.texts = features, labels, texts
        n, count = len(features), len(texts)
        cosines = features @ texts.T  # (N, C)

        self.w = F.one_hot(labels, count).to(features.dtype).T @ features
        self.b = torch.zeros_like(self.w[:, 0])
        self.alpha = 250 * class_means(cosines, labels, count).diagonal().mean().expand(count).clone()

        self.rate = 4 * n / torch.linalg.eigvalsh((features.T @ features).double())[-1].to(features.dtype)
        self.alpha_rate = n / (4 * cosines.square().sum(0).max())
        self.momentum = [torch.zeros_like(self.w), torch.zeros_like(self.b)]

    def weights(self) -> tuple[Tensor, Tensor]:
        """Return weights (C, D) and biases (C,) of the affine classifier of the current state."""
        return self.w + self.alpha[:, None] * self.texts, self.b

    def step(self, *, move_alpha: bool) -> None:
        """Move w and b along the gradient, with momentum; then alpha if `move_alpha`."""
        weights, bias = self.weights()
        error = (self.features @ weights.T + bias).softmax(-1)
        error[torch.arange(len(error)), self.labels] -= 1
        error /= len(error)  # (N, C): d loss / d logits

        gradient = error.T @ self.features
        for parameter, moving, slope in zip((self.w, self.b), self.momentum, (gradient, error.sum(0)), strict=True):
            moving.mul_(0.9).add_(slope)
            parameter.sub_(self.rate * moving)
        if move_alpha:  # from the same gradient, before w moved
            self.alpha -= self.alpha_rate * (gradient * self.texts).sum(-1)
