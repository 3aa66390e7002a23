"""ProDA: a Gaussian over classifier weights, learned through a set of prompts (Lu et al. 2022).

K prompts give each class K unit text features w; over them the weights of all classes are taken as one Gaussian with
their mean mu and covariance Sigma. The expected cross-entropy has the upper bound (with s the logit scale)

    -log exp(s z mu_y) / sum_c exp(s z mu_c + s^2 z^T A_cy z / 2),  A_cy = Sigma_cc + Sigma_yy - Sigma_cy - Sigma_yc,

which a step estimates from some of the prompts; beside it stands lambda times the mean |cosine| between the text
features of those prompts without a class name. An image is scored by mu. A quarter of the prompts have the class name
before their context, a quarter amid it, the others after it. Reproduces the row `ProDA` of SHIP Table 1.

There is no official code; the settings are from memory of the paper. The paper's 4,000 steps of 4 prompts take half an
hour on a CPU even for a small encoder, so params.yaml gives such an encoder larger batches.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from features.text.prompts import tokenize
from features.text.text_tower import TextTower
from pipeline.methods._prompt_learning import Position, class_weights, initial_context
from pipeline.methods.base import Classifier, FitData, Method, PromptedClassifier, everything_scored, scale_of
from pipeline.training.data import gather
from pipeline.training.loop import Batches, cosine, descend, index_by_label, trained_classes


class ProDA(Method):
    """Settings of ProDA."""

    classifier: ClassVar[type[Classifier]] = PromptedClassifier
    needs_text_tower: ClassVar[bool] = True

    init: str | None = None  # words that every prompt starts from; null: N(0, 0.02^2), which makes them differ (paper)
    context: Annotated[int, Field(ge=1, le=16)] = 16  # M, context vectors of a prompt (paper)
    prompts: Annotated[int, Field(ge=2)] = 32  # K (paper)
    prompt_batch: Annotated[int, Field(ge=2)] = 4  # prompts in a step (paper)
    orthogonality: Annotated[float, Field(ge=0)] = 0.1  # lambda (paper)
    epochs: Annotated[int, Field(ge=1)] = 100  # passes over the training images (paper)
    batch: Annotated[int, Field(ge=1)] = 20  # real images a step (paper)
    learning_rate: Annotated[float, Field(gt=0)] = 0.001  # SGD, momentum 0.9, cosine a step (paper)
    synthetic_ratio: Annotated[float, Field(ge=0)] = 1.0  # synthetic features a real one in a step (SHIP section 4.1)

    def fit(self, data: FitData) -> PromptedClassifier:
        """Train the prompts; the classifier is the mean of their text features, one a class."""
        start = initial_context(
            data.text_tower, self.init, self.context, data.rng, method="proda", contexts=self.prompts
        )
        context = nn.Parameter(start)
        ids, scale = trained_classes(data.classes, data.synthetic), scale_of(data.classes)
        target, names = index_by_label(ids, len(data.classes)), data.classes.tokens_of(ids)
        nameless = tokenize(["."])

        def loss(features: Tensor, labels: Tensor) -> Tensor:
            drawn = torch.randperm(self.prompts, generator=data.rng)[: self.prompt_batch].sort().values
            weights = mixed_weights(data.text_tower, context, drawn, names)
            apart = overlap(class_weights(data.text_tower, gather(context, drawn), nameless)[:, 0])
            return surrogate(features, target[labels], weights, scale) + self.orthogonality * apart

        batches = Batches(data.train, data.synthetic, self.epochs, self.batch, self.synthetic_ratio, data.rng)
        optimizer = torch.optim.SGD([context], self.learning_rate, momentum=0.9)
        descend(batches, loss, optimizer, cosine(batches.steps))
        total = torch.zeros_like(data.classes.text_features)
        with torch.no_grad():
            for prompt in torch.arange(self.prompts):  # one at a time, so that memory is one prompt's
                total += mixed_weights(data.text_tower, context, prompt[None], data.classes.tokens)[0]
        return PromptedClassifier(
            scale, everything_scored(data.classes), weights=total / self.prompts, context=context.detach()
        )


def position_of(prompt: int, prompts: int) -> Position:
    """The first quarter of the prompts put the class name in front, the second amid the context, the others last."""
    quarter = prompts // 4
    return "front" if prompt < quarter else "middle" if prompt < 2 * quarter else "end"


def mixed_weights(tower: TextTower, context: Tensor, drawn: Tensor, tokens: Tensor) -> Tensor:
    """(B, C, D) unit text features of B prompts, by ascending number, of context (K, M, W) for tokens (C, T)."""
    places: dict[Position, list[int]] = {}
    for prompt in drawn.tolist():
        places.setdefault(position_of(prompt, len(context)), []).append(prompt)
    chosen = ((gather(context, torch.tensor(these)), position) for position, these in places.items())
    return torch.cat([class_weights(tower, these, tokens, position) for these, position in chosen])


def surrogate(features: Tensor, labels: Tensor, weights: Tensor, scale: Tensor) -> Tensor:
    """The upper bound of the expected cross-entropy, averaged over images: ().

    s^2 z^T A_cy z is the variance over prompts of the difference between the logits of c and y.

    Args:
        features: (N, D) unit.
        labels: (N,) in 0 .. C - 1.
        weights: (K, C, D).
        scale: () s.
    """
    scores = scale * features @ weights.transpose(1, 2)  # (K, N, C)
    mean = scores.mean(0)
    off = scores - mean
    off = off - off.gather(2, labels[None, :, None].expand(len(off), -1, 1))
    return F.cross_entropy(mean + off.square().mean(0) / 2, labels)


def overlap(texts: Tensor) -> Tensor:
    """Mean |cosine| between two different rows of unit texts (K, D): ()."""
    cosines = (texts @ texts.T).abs()
    k = len(texts)
    found: Tensor = (cosines.sum() - cosines.diagonal().sum()) / (k * (k - 1))
    return found
