"""ProDA: a Gaussian over classifier weights, learned through a set of prompts (Lu et al. 2022).

K prompts give each class K unit text features w. The weights of all classes are taken as one Gaussian over the prompts,
with mean mu and covariance Sigma. The expected cross-entropy has the upper bound (s is the logit scale)

    -log exp(s z mu_y) / sum_c exp(s z mu_c + s^2 z^T A_cy z / 2),  A_cy = Sigma_cc + Sigma_yy - Sigma_cy - Sigma_yc,

which each step estimates from some of the prompts. The loss adds lambda times the mean |cosine| between the text
features of those prompts without a class name. An image is scored by mu. A quarter of the prompts have the class name
before their context, a quarter in its middle, the others after it. SHIP Table 1 has it in the row `ProDA`.

The settings are unverified: the authors' repository (bbbdylan/proda) only links an archive of raw code, and the values
marked (paper) were not compared with the paper's text. The paper's 4,000 steps of 4 prompts take half an hour on a CPU
even for a small encoder, so params.yaml gives such an encoder larger batches.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from features.text.text_tower import Position, TextTower
from pipeline.methods._prompt_learning import class_weights, initial_context
from pipeline.methods.base import (
    Classifier,
    FitData,
    Method,
    PromptedClassifier,
    ViewFamily,
    everything_scored,
    scale_of,
)
from pipeline.training.data import gather
from pipeline.training.loop import Batches, cosine, descend, index_by_label, trained_classes


class ProDA(Method):
    """Settings of ProDA."""

    classifier: ClassVar[type[Classifier]] = PromptedClassifier
    needs_text_tower: ClassVar[bool] = True

    init: str | None = None  # words every prompt starts from; null: N(0, 0.02^2), so they differ (paper)
    context: Annotated[int, Field(ge=1, le=16)] = 16  # M, context vectors of a prompt (paper)
    prompts: Annotated[int, Field(ge=2)] = 32  # K (paper)
    prompt_batch: Annotated[int, Field(ge=2)] = 4  # prompts in a step (paper)
    orthogonality: Annotated[float, Field(ge=0)] = 0.1  # lambda (paper)
    epochs: Annotated[int, Field(ge=1)] = 100  # passes over the training images (paper)
    batch: Annotated[int, Field(ge=1)] = 20  # real images per step (paper)
    learning_rate: Annotated[float, Field(gt=0)] = 0.001  # SGD, momentum 0.9, cosine per step (paper)
    synthetic_ratio: Annotated[float, Field(ge=0)] = 1.0  # synthetic features per real one in a step (SHIP section 4.1)
    view_family: ViewFamily = None  # stored views to learn from; null: the first family

    def fit(self, data: FitData) -> PromptedClassifier:
        """Train the prompts; the classifier holds the mean of their text features, one per class."""
        tower = data.text_tower
        start = initial_context(tower, self.init, self.context, data.rng, method="proda", contexts=self.prompts)
        context = nn.Parameter(start)
        ids = trained_classes(data.classes, data.synthetic)
        target = index_by_label(ids, len(data.classes))
        names = data.classes.tokens_of(ids)
        nameless = tower.tokenizer.tokenize_names(["."], room=tower.config.context_length)
        scale = scale_of(data.classes)

        def loss(features: Tensor, labels: Tensor) -> Tensor:
            drawn = torch.randperm(self.prompts, generator=data.rng)[: self.prompt_batch].sort().values
            weights = prompt_weights(tower, context, drawn, names)
            nameless_weights = class_weights(tower, gather(context, drawn), nameless)[:, 0]
            bound = upper_bound(features, target[labels], weights, scale)
            return bound + self.orthogonality * mean_overlap(nameless_weights)

        batches = Batches(data.train, data.synthetic, self.epochs, self.batch, self.synthetic_ratio, data.rng)
        optimizer = torch.optim.SGD([context], self.learning_rate, momentum=0.9)
        descend(batches, loss, optimizer, cosine(batches.steps))

        total = torch.zeros_like(data.classes.text_features)
        with torch.no_grad():
            for prompt in torch.arange(self.prompts):  # one at a time, so that memory holds one prompt's features
                total += prompt_weights(tower, context, prompt[None], data.classes.tokens)[0]
        return PromptedClassifier(
            scale, everything_scored(data.classes), weights=total / self.prompts, context=context.detach()
        )


def position_of(prompt: int, prompts: int) -> Position:
    """Return where a prompt has the class name: the first quarter in front, the second in the middle, others last."""
    quarter = prompts // 4
    if prompt < quarter:
        return "front"
    return "middle" if prompt < 2 * quarter else "end"


def prompt_weights(tower: TextTower, context: Tensor, drawn: Tensor, tokens: Tensor) -> Tensor:
    """Return unit text features (B, C, D) of some of the prompts.

    Args:
        tower: the frozen text tower.
        context: (K, M, W) of all prompts.
        drawn: (B,) ascending numbers of the prompts, on the host.
        tokens: (C, T) on the host.
    """
    by_position: dict[Position, list[int]] = {}
    for prompt in drawn.tolist():
        by_position.setdefault(position_of(prompt, len(context)), []).append(prompt)

    # Ascending prompts have ascending positions, so concatenating by position keeps their order.
    weights = [
        class_weights(tower, gather(context, torch.tensor(prompts)), tokens, position)
        for position, prompts in by_position.items()
    ]
    return torch.cat(weights)


def upper_bound(features: Tensor, labels: Tensor, weights: Tensor, scale: Tensor) -> Tensor:
    """Return the upper bound of the expected cross-entropy, averaged over images: ().

    s^2 z^T A_cy z is the variance over prompts of the difference between the logits of c and y.

    Args:
        features: (N, D) unit rows z.
        labels: (N,) y in 0 .. C - 1.
        weights: (K, C, D) text features of K prompts.
        scale: () s.
    """
    logits = scale * features @ weights.transpose(1, 2)  # (K, N, C)
    mean = logits.mean(0)

    deviation = logits - mean
    deviation_of_label = deviation.gather(2, labels[None, :, None].expand(len(deviation), -1, 1))
    variance = (deviation - deviation_of_label).square().mean(0)
    return F.cross_entropy(mean + variance / 2, labels)


def mean_overlap(texts: Tensor) -> Tensor:
    """Return the mean |cosine| () between two different rows of unit texts (K, D)."""
    cosines = (texts @ texts.T).abs()
    k = len(texts)
    mean: Tensor = (cosines.sum() - cosines.diagonal().sum()) / (k * (k - 1))
    return mean
