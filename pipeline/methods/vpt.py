"""Variational prompt tuning: a posterior over the context, given the image (Derakhshani et al. 2023).

The context is v_m + r, with one r for all M vectors and r ~ N(mu(x), sigma^2(x)). mu and log sigma^2 are nets of the
unit image feature: Linear D -> D/2, ELU, Linear, ELU, Linear -> W each. With L draws

    loss = -log (1/L) sum_l p(y | x, r_l) + kl_weight * mean over the W dimensions of KL(N(mu, sigma^2) | N(0, 1)),

and an image is scored by the mean probability over as many draws. With `conditional: false` mu and log sigma^2 are two
free vectors instead, the same for all images; they start at 0 and in U(0, 1). That form is the row `CoOp + VPT` of SHIP
Table 1; the default is the paper's conditional form.

Probabilities are relative to the candidate classes, so these logits, unlike those of other methods, depend on which
candidates there are. Epochs and L are the official ones for Caltech101; papers/ship_table_1.yaml has them for every
data set. They belong to a configuration with the unconditional form (VPT.md); the authors give none for the other.

Differs from the code (Bayesian-Prompt-Learning 8a73fff, read 2026-11): the draws of the test are made once, in `fit`,
and serve every image (the code: new draws for each); float32 (the code: float16); stored views (the code: fresh crops).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from features.text.text_tower import TextTower
from pipeline.methods._prompt_learning import class_weights, dassl_sgd, initial_context, initial_linear
from pipeline.methods.base import Classifier, FitData, Method, ViewFamily, everything_scored, required_tower, scale_of
from pipeline.training.data import ClassSet
from pipeline.training.loop import Batches, descend, index_by_label, trained_classes

IMAGES_PER_PASS = 16  # images whose text features are held at a time


@dataclass(frozen=True)
class VptClassifier(Classifier):
    """A classifier whose logits are the log of the mean probability over L contexts drawn for each image.

    In `inner`, `middle` and `outer` index 0 belongs to the net of mu, 1 to that of log sigma^2, and the last column is
    the bias. An unconditional posterior has H = 0 hidden units, so the biases of `outer` are all there is: two vectors.

    Attributes:
        tokens: (C, T) int64 of the class names; on the host once the classifier has its text tower.
        context: (M, W) shared context vectors v.
        noise: (L, W) draws of the test.
        inner: (2, H, D + 1) first layers; H is D/2, or 0.
        middle: (2, H, H + 1) second layers.
        outer: (2, W, H + 1) last layers.
        tower: the text tower, not part of what is saved; None until `with_text_tower`.
    """

    tokens: Tensor
    context: Tensor
    noise: Tensor
    inner: Tensor
    middle: Tensor
    outer: Tensor
    tower: TextTower | None = None

    def with_text_tower(self, tower: TextTower) -> Self:
        """Return the same classifier with the text tower that it scores with."""
        return replace(self, tower=tower, tokens=self.tokens.cpu())

    @property
    def dimension(self) -> int:
        """Return D of the features that it scores."""
        return self.inner.shape[2] - 1

    @property
    def conditional(self) -> bool:
        """Return whether the posterior depends on the image."""
        return self.inner.shape[1] > 0

    def posterior(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log sigma^2 (N, W) for unit features (N, D); (1, W) for all images if not conditional."""
        if not self.conditional:
            features = features[:1]  # any row will do

        outputs = []
        for inner, middle, outer in zip(self.inner, self.middle, self.outer, strict=True):
            hidden = F.elu(F.linear(features, inner[:, :-1], inner[:, -1]))
            hidden = F.elu(F.linear(hidden, middle[:, :-1], middle[:, -1]))
            outputs.append(F.linear(hidden, outer[:, :-1], outer[:, -1]))
        mean, log_var = outputs
        return mean, log_var

    def log_probabilities(self, features: Tensor, names: Tensor, noise: Tensor) -> Tensor:
        """Return log p(class | image, r_l): (L, N, M).

        Args:
            features: (N, D) unit rows.
            names: (M, T) tokens of the candidate classes.
            noise: (L, N, W) standard normal draws, or (L, 1, W) for all images.
        """
        tower = required_tower(self.tower)
        mean, log_var = self.posterior(features)
        contexts = self.context + (mean + noise * (log_var / 2).exp())[:, :, None]  # (L, N or 1, M, W)

        weights = class_weights(tower, contexts.flatten(0, 1), names)
        weights = weights.unflatten(0, contexts.shape[:2])  # type: ignore[no-untyped-call]
        logits: Tensor = self.logit_scale * (weights @ features[..., None]).squeeze(-1)
        return logits.log_softmax(-1)

    def _logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        names = self.tokens[class_ids.cpu()]
        noise = self.noise[:, None]
        sums = [
            self.log_probabilities(part, names, noise).logsumexp(0) for part in torch.split(features, IMAGES_PER_PASS)
        ]
        return torch.cat(sums) - math.log(len(self.noise))


class Vpt(Method):
    """Settings of variational prompt tuning."""

    classifier: ClassVar[type[Classifier]] = VptClassifier
    needs_text_tower: ClassVar[bool] = True
    scores_with_text_tower: ClassVar[bool] = True

    init: str | None = "a photo of a"  # words the context starts from (official config); null: N(0, 0.02^2)
    context: Annotated[int, Field(ge=1, le=16)] = 4  # M, context vectors (official config)
    conditional: bool = True  # one posterior per image, or one for all (code: cocoopvpt | coopvpt, its default)
    samples: Annotated[int, Field(ge=1)] = 20  # L, draws of the context in training (official, Caltech101)
    test_samples: Annotated[int, Field(ge=1)] = 20  # L at test, the size of the ensemble (official, Caltech101)
    kl_weight: Annotated[float, Field(ge=0)] = 0.001  # of the KL, which is a mean over dimensions (code)
    epochs: Annotated[int, Field(ge=1)] = 20  # passes over the training images (official, Caltech101)
    batch: Annotated[int, Field(ge=1)] = 1  # real images per step (official config)
    learning_rate: Annotated[float, Field(gt=0)] = 0.002  # SGD, momentum 0.9, weight decay 5e-4, CoOp's schedule
    synthetic_ratio: Annotated[float, Field(ge=0)] = 1.0  # synthetic features per real one in a step (SHIP section 4.1)
    view_family: ViewFamily = None  # stored views to learn from; null: the first family

    def fit(self, data: FitData) -> VptClassifier:
        """Train the context and the posterior together."""
        model = self._start(data.text_tower, data.classes, data.rng)
        width = data.text_tower.config.width
        ids = trained_classes(data.classes, data.synthetic)
        target = index_by_label(ids, len(data.classes))
        names = data.classes.tokens_of(ids)

        learned = {name: nn.Parameter(getattr(model, name)) for name in ("context", "inner", "middle", "outer")}
        parameters: dict[str, Any] = dict(learned)
        model = replace(model, **parameters)

        def loss(features: Tensor, labels: Tensor) -> Tensor:
            noise = torch.randn(self.samples, len(features), width, generator=data.rng)
            log_p = model.log_probabilities(features, names, noise.to(features.device, non_blocking=True))
            return negative_elbo(log_p, target[labels], *model.posterior(features), self.kl_weight)

        batches = Batches(
            data.train, data.synthetic, self.epochs, self.batch, self.synthetic_ratio, data.rng, drop_last=True
        )
        descend(batches, loss, *dassl_sgd(list(learned.values()), batches, self.learning_rate))

        final: dict[str, Any] = {name: value.detach() for name, value in learned.items()}
        return replace(model, **final)

    def _start(self, tower: TextTower, classes: ClassSet, rng: torch.Generator) -> VptClassifier:
        """Return the context from words, the start of the posterior, and the draws of the test."""
        d, device = classes.text_features.shape[1], classes.text_features.device
        width = tower.config.width
        layers = initial_nets(d, width, rng) if self.conditional else free_vectors(d, width, rng)
        inner, middle, outer = (layer.to(device) for layer in layers)

        return VptClassifier(
            scale_of(classes),
            everything_scored(classes),
            tokens=classes.tokens,
            context=initial_context(tower, self.init, self.context, rng, method="vpt")[0],
            noise=torch.randn(self.test_samples, width, generator=rng).to(device),
            inner=inner,
            middle=middle,
            outer=outer,
            tower=tower,
        )


def initial_nets(d: int, width: int, rng: torch.Generator) -> list[Tensor]:
    """Return the three layers of the nets of mu and log sigma^2, as torch initialises a Linear; see `VptClassifier`."""
    hidden = max(1, d // 2)

    def of_both(outputs: int, inputs: int) -> Tensor:
        linear = [initial_linear(outputs, inputs, rng) for _ in range(2)]
        return torch.stack([torch.cat([weight, bias[:, None]], dim=1) for weight, bias in linear])

    return [of_both(hidden, d), of_both(hidden, hidden), of_both(width, hidden)]


def free_vectors(d: int, width: int, rng: torch.Generator) -> list[Tensor]:
    """Return layers without hidden units, whose last biases are mu = 0 and log sigma^2 from U(0, 1) (code)."""
    vectors = torch.stack([torch.zeros(width), torch.rand(width, generator=rng)])
    return [torch.empty(2, 0, d + 1), torch.empty(2, 0, 1), vectors[..., None]]


def negative_elbo(log_p: Tensor, labels: Tensor, mean: Tensor, log_var: Tensor, kl_weight: float) -> Tensor:
    """Return -log of the mean probability of the label + kl_weight * KL, averaged over images: ().

    Args:
        log_p: (L, N, C) log-probabilities.
        labels: (N,) in 0 .. C - 1.
        mean: (N, W) of the posterior, or (1, W) for all images.
        log_var: log sigma^2, of the same shape.
        kl_weight: weight of the KL, which is averaged over its W dimensions.
    """
    log_p_of_label = log_p.gather(2, labels[None, :, None].expand(len(log_p), -1, 1)).squeeze(-1)  # (L, N)
    log_likelihood = log_p_of_label.logsumexp(0) - math.log(len(log_p))
    kl = (mean.square() + log_var.exp() - 1 - log_var).mean(-1) / 2
    return kl_weight * kl.mean() - log_likelihood.mean()
