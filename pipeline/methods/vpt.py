"""Variational prompt tuning: a posterior over the context, given the image (Derakhshani et al. 2023).

Context: v_m + r, one r for all M vectors, r ~ N(mu(x), sigma^2(x)); mu and log sigma^2 are nets of the unit image
feature, Linear D -> D/2, ELU, Linear, ELU, Linear -> W each, or (`conditional: false`) two free vectors. With L draws

    loss = -log (1/L) sum_l p(y | x, r_l) + kl_weight * mean over the W dimensions of KL(N(mu, sigma^2) | N(0, 1)),

and an image is scored by the mean probability over as many draws. `conditional: false` reproduces the row `CoOp + VPT`
of SHIP Table 1, the default the paper's conditional form.

Probabilities are of a class among the candidates, so these logits, unlike other methods', depend on which there are.
The draws of the test are made once, in `fit`, and serve every image. Epochs and L are the official ones for Caltech101;
they vary by data set there (epochs 10 to 60). Differs from the code: fp32, stored views for fresh augmentations.
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
from pipeline.methods._prompt_learning import class_weights, dassl_sgd, first_linear, initial_context
from pipeline.methods.base import Classifier, FitData, Method, everything_scored, scale_of
from pipeline.training.data import ClassSet
from pipeline.training.loop import Batches, descend, index_by_label, trained_classes


@dataclass(frozen=True)
class VptClassifier(Classifier):
    """Log of the mean probability over L contexts drawn for each image.

    Attributes:
        tokens: (C, T) of the class names; on the host, once bound.
        context: (M, W).
        noise: (L, W) the draws of the test.
        inner: (2, H, D + 1) first layers of mu's and log sigma^2's nets, the last column their bias.
        middle: (2, H, H + 1), outer: (2, W, H + 1) their other layers.
        conditional: () bool, whether the nets see the image; if not, they see zeros.
        tower: once bound; not part of what is saved.
    """

    tokens: Tensor
    context: Tensor
    noise: Tensor
    inner: Tensor
    middle: Tensor
    outer: Tensor
    conditional: Tensor
    tower: TextTower | None = None

    def with_text_tower(self, tower: TextTower) -> Self:
        """With the tower that it scores with."""
        return replace(self, tower=tower, tokens=self.tokens.cpu())

    @property
    def dimension(self) -> int:
        """D of the features that it scores."""
        return self.inner.shape[2] - 1

    def posterior(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log sigma^2 (N, W) for unit features (N, D); of one row for all if not conditional."""
        if not self.conditional:
            features = torch.zeros_like(features[:1])
        found = []
        for inner, middle, outer in zip(self.inner, self.middle, self.outer, strict=True):
            hidden = F.elu(F.linear(features, inner[:, :-1], inner[:, -1]))
            hidden = F.elu(F.linear(hidden, middle[:, :-1], middle[:, -1]))
            found.append(F.linear(hidden, outer[:, :-1], outer[:, -1]))
        return found[0], found[1]

    def log_probabilities(self, features: Tensor, names: Tensor, noise: Tensor) -> Tensor:
        """(L, N, M) log p(class | image, r_l) for unit features (N, D), tokens (M, T) and noise (L, N or 1, W)."""
        assert self.tower is not None  # noqa: S101 (the pipeline binds it: scores_with_text_tower)
        mean, log_var = self.posterior(features)
        drawn = self.context + (mean + noise * (log_var / 2).exp())[:, :, None]  # (L, N or 1, M, W)
        weights = class_weights(self.tower, drawn.flatten(0, 1), names)
        weights = weights.unflatten(0, drawn.shape[:2])  # type: ignore[no-untyped-call]
        scores: Tensor = self.logit_scale * (weights @ features[..., None]).squeeze(-1)
        return scores.log_softmax(-1)

    def _logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        names, parts = self.tokens[class_ids.cpu()], torch.split(features, 16)
        scored = [self.log_probabilities(part, names, self.noise[:, None]).logsumexp(0) for part in parts]
        return torch.cat(scored) - math.log(len(self.noise))


class Vpt(Method):
    """Settings of variational prompt tuning."""

    classifier: ClassVar[type[Classifier]] = VptClassifier
    needs_text_tower: ClassVar[bool] = True
    scores_with_text_tower: ClassVar[bool] = True

    init: str | None = "a photo of a"  # words the context starts from (official config); null: N(0, 0.02^2)
    context: Annotated[int, Field(ge=1, le=16)] = 4  # M, context vectors (official config)
    conditional: bool = True  # a posterior for each image, or one for all (code: cocoopvpt, coopvpt)
    samples: Annotated[int, Field(ge=1)] = 20  # L, draws of the context in training (official, Caltech101)
    test_samples: Annotated[int, Field(ge=1)] = 20  # L at test: the ensemble's size (official, Caltech101)
    kl_weight: Annotated[float, Field(ge=0)] = 0.001  # of the KL, a mean over dimensions (code)
    epochs: Annotated[int, Field(ge=1)] = 20  # passes over the training images (official, Caltech101)
    batch: Annotated[int, Field(ge=1)] = 1  # real images a step (official config)
    learning_rate: Annotated[float, Field(gt=0)] = 0.002  # SGD, momentum 0.9, weight decay 5e-4, CoOp's schedule
    synthetic_ratio: Annotated[float, Field(ge=0)] = 1.0  # synthetic features a real one in a step (SHIP section 4.1)

    def fit(self, data: FitData) -> VptClassifier:
        """Train the context and the posterior together."""
        model = self._start(data.text_tower, data.classes, data.rng)
        ids = trained_classes(data.classes, data.synthetic)
        target, names, width = index_by_label(ids, len(data.classes)), data.classes.tokens_of(ids), data.text_tower.config.width

        def loss(features: Tensor, labels: Tensor) -> Tensor:
            noise = torch.randn(self.samples, len(features), width, generator=data.rng)
            found = model.log_probabilities(features, names, noise.to(features.device, non_blocking=True))
            return negative_elbo(found, target[labels], *model.posterior(features), self.kl_weight)

        learned = {name: nn.Parameter(getattr(model, name)) for name in ("context", "inner", "middle", "outer")}
        changed: dict[str, Any] = dict(learned)
        model = replace(model, **changed)
        batches = Batches(data.train, data.synthetic, self.epochs, self.batch, self.synthetic_ratio, data.rng)
        descend(batches, loss, *dassl_sgd(list(learned.values()), batches, self.learning_rate))
        changed = {name: value.detach() for name, value in learned.items()}
        return replace(model, **changed)

    def _start(self, tower: TextTower, classes: ClassSet, rng: torch.Generator) -> VptClassifier:
        """The context from words, the nets as torch's Linear starts, and the draws of the test."""
        d, width, device = classes.text_features.shape[1], tower.config.width, classes.text_features.device
        hidden = max(1, d // 2)

        def two(outputs: int, inputs: int) -> Tensor:
            layers = [first_linear(outputs, inputs, rng) for _ in range(2)]
            return torch.stack([torch.cat([w, b[:, None]], dim=1) for w, b in layers]).to(device)

        return VptClassifier(
            scale_of(classes),
            everything_scored(classes),
            tokens=classes.tokens,
            context=initial_context(tower, self.init, self.context, rng, method="vpt")[0],
            noise=torch.randn(self.test_samples, width, generator=rng).to(device),
            inner=two(hidden, d),
            middle=two(hidden, hidden),
            outer=two(width, hidden),
            conditional=torch.tensor(self.conditional),  # on the host, where it decides
            tower=tower,
        )


def negative_elbo(log_p: Tensor, labels: Tensor, mean: Tensor, log_var: Tensor, kl_weight: float) -> Tensor:
    """-log of the mean probability of the label + kl_weight * KL, averaged over images: ().

    Args:
        log_p: (L, N, C) log-probabilities.
        labels: (N,) in 0 .. C - 1.
        mean: (N or 1, W) of the posterior, like log_var.
        log_var: log sigma^2.
        kl_weight: of the KL's mean over its W dimensions.
    """
    right = log_p.gather(2, labels[None, :, None].expand(len(log_p), -1, 1)).squeeze(-1)
    likely = right.logsumexp(0) - math.log(len(log_p))
    kl = (mean.square() + log_var.exp() - 1 - log_var).mean(-1) / 2
    return kl_weight * kl.mean() - likely.mean()
