"""WGAN-GP on features (Gulrajani et al. 2017), for the generators that train against a critic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.generators._attribute_generator import LEAK
from pipeline.generators._networks import draw_weights, mlp
from pipeline.generators.base import Log
from pipeline.training.data import ClassSet, LabelledFeatures, at
from pipeline.training.loop import Batches, places

BETAS = (0.5, 0.999)  # of Adam (the codes of f-CLSWGAN and its descendants)
Fake = Callable[[Tensor, Tensor], Tensor]
Terms = Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]]


class WganSettings(Protocol):
    """What `train_wgan` reads of a generator's settings; their files say where the values come from."""

    @property
    def critic_width(self) -> int:
        """Hidden units of the critic."""

    @property
    def critic_steps(self) -> int:
        """Steps of the critic before each of the generator."""

    @property
    def gradient_penalty(self) -> float:
        """Factor lambda of the penalty."""

    @property
    def epochs(self) -> int:
        """Passes over the seen images by the generator; the critic makes `critic_steps` times as many."""

    @property
    def batch(self) -> int:
        """Images a step."""

    @property
    def learning_rate(self) -> float:
        """Of Adam, for generator and critic."""


class Critic(nn.Module):
    """D(x, a): how real feature x (N, D) looks for a class of attributes a (N, D), without bound: (N,)."""

    def __init__(self, embed_dim: int, hidden: int) -> None:
        super().__init__()
        self.net = mlp(2 * embed_dim, hidden, 1, leak=LEAK)

    def forward(self, x: Tensor, attributes: Tensor) -> Tensor:
        """Score each row."""
        score: Tensor = self.net(torch.cat([x, attributes], dim=-1))
        return score.squeeze(-1)


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, attributes: Tensor, share: Tensor) -> Tensor:
    """E[(||d D(x', a) / d x'||_2 - 1)^2] at x' = share * real + (1 - share) * fake (WGAN-GP).

    Args:
        critic: D.
        real: (N, D).
        fake: (N, D), without gradient.
        attributes: (N, D) of the rows' classes.
        share: (N, 1) in [0, 1].
    """
    between = (share * real + (1 - share) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between, attributes).sum(), between, create_graph=True)
    penalty: Tensor = (gradient.norm(dim=-1) - 1).square().mean()
    return penalty


def train_wgan(
    model: nn.Module,
    train: LabelledFeatures,
    classes: ClassSet,
    settings: WganSettings,
    *,
    fake: Fake,
    terms: Terms,
    rng: torch.Generator,
    log: Log,
    adversarial_weight: float = 1.0,
    with_critic: Callable[[Tensor, Tensor], None] | None = None,
) -> None:
    """Play generator against critic.

    Args:
        model: whose parameters the generator's steps train.
        train: real features of seen classes.
        classes: whose text features are the attributes.
        settings: of both sides.
        fake: real features (B, D) and labels (B,), on the host, to as many fakes of the same classes, with gradients.
        terms: real features, labels and fakes to further terms of the generator's loss, by name.
        rng: on the CPU; draws everything.
        log: takes each epoch's last values: `wasserstein`, the critic's estimate of the distance, and all terms.
        adversarial_weight: factor of the critic's eval_split in the generator's loss.
        with_critic: called with each of the critic's real batches, for what else learns from them alone.
    """
    device = train.features.device
    critic = draw_weights(Critic(train.features.shape[-1], settings.critic_width), rng).to(device)
    critics, generators = (
        torch.optim.Adam([p for p in part.parameters() if p.requires_grad], settings.learning_rate, BETAS, fused=True)
        for part in (critic, model)
    )
    batches = Batches(train, None, settings.epochs * settings.critic_steps, settings.batch, 0.0, rng)
    for step, (x, labels) in enumerate(batches, 1):
        attributes = at(classes.text_features, labels)
        if with_critic is not None:
            with_critic(x, labels)
        with torch.no_grad():
            made = fake(x, labels)
        distance = critic(x, attributes).mean() - critic(made, attributes).mean()
        share = torch.rand(len(x), 1, generator=rng).to(device, non_blocking=True)
        penalty = gradient_penalty(critic, x, made, attributes, share)
        _step(critics, settings.gradient_penalty * penalty - distance)
        if step % settings.critic_steps:
            continue
        critic.requires_grad_(False)  # it passes the gradient on, and needs none of its own
        made = fake(x, labels)
        found = {"adversarial": -adversarial_weight * critic(made, attributes).mean(), **terms(x, labels, made)}
        _step(generators, torch.stack(list(found.values())).sum())
        critic.requires_grad_(True)
        epoch, rest = divmod(step, batches.steps_per_epoch * settings.critic_steps)
        if rest == 0:
            found |= {"wasserstein": distance, "penalty": penalty}
            log({"epoch": epoch, **{name: float(value.detach()) for name, value in found.items()}})


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


class SeenClassifier(nn.Module):
    """P(y | x) over the seen classes, for the classification loss of f-CLSWGAN: softmax of s (W x + b).

    s is CLIP's logit scale, without which the softmax of unit features could not become sharp.
    """

    def __init__(self, embed_dim: int, classes: ClassSet) -> None:
        super().__init__()
        self.linear = nn.Linear(embed_dim, len(classes.seen_ids))
        self.scale = classes.logit_scale
        self.register_buffer("place", places(classes.seen_ids, len(classes)))
        self.place: Tensor

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of features (N, D) and their labels (N,) on the host, positions in the task's classes."""
        return F.cross_entropy(self.scale * self.linear(x), at(self.place, labels))


def seen_classifier(train: LabelledFeatures, classes: ClassSet, epochs: int, rng: torch.Generator) -> SeenClassifier:
    """Fit the classifier on real features, batches of 100 and Adam at 0.001 as LisGAN's code has it, and freeze it."""
    model = draw_weights(SeenClassifier(train.features.shape[-1], classes), rng).to(train.features.device)
    optimizer = torch.optim.Adam(model.parameters(), 0.001, BETAS)
    for x, labels in Batches(train, None, epochs, 100, 0.0, rng):
        _step(optimizer, model.loss(x, labels))
    return model.requires_grad_(False)
