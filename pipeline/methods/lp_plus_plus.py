"""LP++: a linear probe whose weights are a visual prototype plus a learned multiple of the text (Huang et al. 2024).

logits_k = f^T (w_k + alpha_k t_k) + b_k with unit f and t; cross-entropy on all images at once. w_k starts at
the sum of its class's features, alpha at 250 times the mean cosine of an image and its own text, both steps come from
bounds on the loss's curvature: 4 N / the largest eigenvalue of F^T F for w and b (momentum 0.9), N / (4 max_k
sum_i (f_i^T t_k)^2) for alpha, which moves every tenth step. Nothing is tuned. Reproduces the rows "LP++" of the
paper's few-shot comparison. Alone it cannot score classes without images.

Of all steps the one that is best on validation is kept, the last of those that tie (code). Differs from the code: b
starts at 0, not at noise; alpha moves along the current gradient (paper), not along the sum of all so far;
features are the centre crops' (code: one augmented crop).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from features.errors import InputError
from pipeline.methods._affine import AffineClassifier, affine, class_means, concat_real_synthetic
from pipeline.methods.base import Classifier, FitData, Method
from pipeline.training.loop import index_by_label, trained_classes


class LpPlusPlus(Method):
    """Settings of LP++."""

    classifier: ClassVar[type[Classifier]] = AffineClassifier

    steps: Annotated[int, Field(ge=1)] = 300  # over all images at once (official config)
    alpha_every: Annotated[int, Field(ge=1)] = 10  # steps of w between two of alpha (code)

    def fit(self, data: FitData) -> AffineClassifier:
        """Descend, and keep the best step on validation, or the last where there is none.

        Raises:
            InputError: the loss did not stay finite.
        """
        ids = trained_classes(data.classes, data.synthetic)
        features, labels = concat_real_synthetic(data.train, data.synthetic, data.classes)
        probe = Probe(features, index_by_label(ids, len(data.classes))[labels], data.classes.text_features[ids])
        best, kept = -1, affine(data.classes, ids, *probe.weights())
        for step in range(1, self.steps + 1):
            probe.step(move_alpha=step % self.alpha_every == 0)
            current = affine(data.classes, ids, *probe.weights())
            chosen = current.logits(data.validation.centre, data.classes.seen_ids).argmax(1)
            right = int((data.classes.seen_ids[chosen] == data.validation.labels).sum())
            if right >= best:
                best, kept = right, current
        if not bool(kept.weights.isfinite().all()):
            raise InputError("methods.lp_plus_plus: the loss did not stay finite; are there features without length?")
        return kept


class Probe:
    """The state of the descent: w (C, D), b (C,) and alpha (C,) over features (N, D), labels (N,), texts (C, D)."""

    def __init__(self, features: Tensor, labels: Tensor, texts: Tensor) -> None:
        self.features, self.labels, self.texts = features, labels, texts
        n, count = len(features), len(texts)
        similar = features @ texts.T
        self.w = F.one_hot(labels, count).to(features.dtype).T @ features
        self.b = torch.zeros_like(self.w[:, 0])
        self.alpha = 250 * class_means(similar, labels, count).diagonal().mean().expand(count).clone()
        self.rate = 4 * n / torch.linalg.eigvalsh((features.T @ features).double())[-1].to(features.dtype)
        self.alpha_rate = n / (4 * similar.square().sum(0).max())
        self.moved = [torch.zeros_like(self.w), torch.zeros_like(self.b)]

    def weights(self) -> tuple[Tensor, Tensor]:
        """Weights (C, D) and biases (C,) of the affine classifier that this is."""
        return self.w + self.alpha[:, None] * self.texts, self.b

    def step(self, *, move_alpha: bool) -> None:
        """One step of w and b along the gradient, with momentum; then perhaps one of alpha."""
        weights, bias = self.weights()
        error = (self.features @ weights.T + bias).softmax(-1)
        error[torch.arange(len(error)), self.labels] -= 1
        error /= len(error)  # (N, C): d loss / d logits
        along = error.T @ self.features
        for parameter, moved, gradient in zip((self.w, self.b), self.moved, (along, error.sum(0)), strict=True):
            moved.mul_(0.9).add_(gradient)
            parameter.sub_(self.rate * moved)
        if move_alpha:
            self.alpha -= self.alpha_rate * (along * self.texts).sum(-1)
