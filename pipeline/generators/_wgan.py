"""WGAN-GP on features (Gulrajani et al. 2017), for the generators that train against a critic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.generators._attribute_generator import LEAK
from pipeline.generators._networks import M, init_weights, mlp
from pipeline.generators.base import Generator, Log
from pipeline.training.data import ClassSet, LabelledFeatures, gather
from pipeline.training.loop import Batches, index_by_label

Betas = tuple[float, float]
BETAS: Betas = (0.5, 0.999)  # of Adam (the code of f-CLSWGAN and of its descendants)

# Real features (B, D) and their labels (B,), on the host -> fakes (B, D) of the same classes.
Generate = Callable[[Tensor, Tensor], Tensor]
# Real features (B, D), labels (B,) and fakes (B, D) -> further terms () of the generator's loss, by name.
ExtraLosses = Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]]
# Real features (B, D) and labels (B,), once per step of the critic.
OnRealBatch = Callable[[Tensor, Tensor], None]


class AdversarialGenerator(Generator):
    """Base of the generators that train against a critic: the settings of `train_wgan`.

    The defaults are f-CLSWGAN's (Xian et al. 2018), from its paper or its code. A generator's own file names the
    settings in which it differs and the source of each.

    Class attributes:
        betas: of Adam, for generator and critic.
        mixes_numbers: whether the penalty's share of the real feature is drawn for each number, not for each row.
    """

    betas: ClassVar[Betas] = BETAS
    mixes_numbers: ClassVar[bool] = False

    critic_width: PositiveInt = 4096  # hidden units of the critic D (f-CLSWGAN section 4)
    critic_steps: PositiveInt = 5  # critic steps per generator step (WGAN-GP; code)
    gradient_penalty: NonNegativeFloat = 10.0  # factor lambda of the penalty (WGAN-GP; f-CLSWGAN section 3)
    # `epochs` counts the generator's passes over the seen images; the critic makes `critic_steps` times as many.
    batch: PositiveInt = 64  # images per step (code)
    learning_rate: PositiveFloat = 0.0001  # Adam, for generator and critic, with betas `BETAS` (code)

    @property
    def critic_rate(self) -> float:
        """Return the learning rate of the critic."""
        return self.learning_rate

    def init(self, module: M, rng: torch.Generator) -> M:
        """Return the module with its first weights: N(0, 0.02^2), biases 0 (code)."""
        return init_weights(module, rng)


class Critic(nn.Module):
    """D(x, a): an unbounded score of how real a feature looks for a class with given attributes."""

    def __init__(self, embed_dim: int, hidden: int) -> None:
        super().__init__()
        self.net = mlp(2 * embed_dim, hidden, 1, leak=LEAK)

    def forward(self, x: Tensor, attributes: Tensor) -> Tensor:
        """Score features (N, D) given the attributes (N, D) of their classes: (N,)."""
        score: Tensor = self.net(torch.cat([x, attributes], dim=-1))
        return score.squeeze(-1)


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, attributes: Tensor, share: Tensor) -> Tensor:
    """Return E[(||d D(x', a) / d x'||_2 - 1)^2] at x' = share * real + (1 - share) * fake (WGAN-GP, Eq. 3).

    Args:
        critic: D.
        real: (N, D) real features.
        fake: (N, D) fakes, without gradient.
        attributes: (N, D) attributes of the rows' classes.
        share: (N, 1) share of the real feature in each mix, or (N, D) of each of its numbers, in [0, 1].

    Returns:
        () penalty, with gradients to the critic's parameters.
    """
    between = (share * real + (1 - share) * fake).requires_grad_()

    # Rows do not interact, so the gradient of the summed scores holds each row's own gradient. `create_graph` keeps
    # the graph of the gradient itself, because the critic must be trained through it.
    (gradient,) = torch.autograd.grad(critic(between, attributes).sum(), between, create_graph=True)

    penalty: Tensor = (gradient.norm(dim=-1) - 1).square().mean()
    return penalty


def train_wgan(
    model: nn.Module,
    train: LabelledFeatures,
    classes: ClassSet,
    settings: AdversarialGenerator,
    *,
    generate: Generate,
    extra_losses: ExtraLosses | None = None,
    rng: torch.Generator,
    log: Log,
    adversarial_weight: float = 1.0,
    on_real_batch: OnRealBatch | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    after_step: Callable[[], None] | None = None,
) -> None:
    """Train `model` against a critic that is drawn and discarded here.

    Args:
        model: the module whose parameters the generator's steps train.
        train: real features of seen classes.
        classes: the classes; their text features (C, D) are the attributes.
        settings: the settings of both sides.
        generate: real features (B, D) and labels (B,), on the host, to fakes (B, D) of the same classes, with
            gradients to `model`.
        extra_losses: real features (B, D), labels (B,) and fakes (B, D) to further terms () of the generator's loss,
            by name; they are added to the adversarial term.
        rng: the source of all draws, on the CPU.
        log: receives each epoch's last values: `wasserstein`, the critic's estimate of the distance, `penalty` and
            all terms of the generator's loss.
        adversarial_weight: factor of the critic's score in the generator's loss.
        on_real_batch: called before each critic step with its real features (B, D) and labels (B,), to train whatever
            learns from real features alone.
        optimizer: of the generator's steps; by default Adam at `learning_rate` for all parameters that learn.
        after_step: called after each generator step, whose gradients are still there.
    """
    device = train.features.device
    critic = settings.init(Critic(train.features.shape[-1], settings.critic_width), rng).to(device)
    critic_optimizer = adam([critic], settings.critic_rate, settings.betas)
    generator_optimizer = optimizer or adam([model], settings.learning_rate, settings.betas)

    # Every batch trains the critic and every `critic_steps`-th one the generator too.
    batches = Batches(train, None, settings.epochs * settings.critic_steps, settings.batch, 0.0, rng)
    for step, (x, labels) in enumerate(batches, 1):
        attributes = gather(classes.text_features, labels)
        if on_real_batch is not None:
            on_real_batch(x, labels)

        # The critic maximises D(real) - D(fake), its estimate of the Wasserstein distance.
        with torch.no_grad():
            fake = generate(x, labels)
        wasserstein = critic(x, attributes).mean() - critic(fake, attributes).mean()
        drawn = torch.rand(len(x), x.shape[-1] if settings.mixes_numbers else 1, generator=rng)
        share = drawn.to(device, non_blocking=True)
        penalty = gradient_penalty(critic, x, fake, attributes, share)
        _step(critic_optimizer, settings.gradient_penalty * penalty - wasserstein)
        if step % settings.critic_steps:
            continue

        # The generator maximises D(fake), on new fakes. The critic passes the gradient on and needs none of its own.
        critic.requires_grad_(False)
        fake = generate(x, labels)
        losses = {"adversarial": -adversarial_weight * critic(fake, attributes).mean()}
        if extra_losses is not None:
            losses |= extra_losses(x, labels, fake)
        _step(generator_optimizer, torch.stack(list(losses.values())).sum())
        if after_step is not None:
            after_step()
        critic.requires_grad_(True)

        epoch, rest = divmod(step, batches.steps_per_epoch * settings.critic_steps)
        if rest == 0:
            values = losses | {"wasserstein": wasserstein, "penalty": penalty}
            log({"epoch": epoch, **{name: float(value.detach()) for name, value in values.items()}})


def adam(modules: Sequence[nn.Module], learning_rate: float, betas: Betas = BETAS) -> torch.optim.Optimizer:
    """Return the optimizer of all parameters of some modules that learn."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    return torch.optim.Adam(parameters, learning_rate, betas, fused=True)


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Make one optimizer step on a loss ()."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


class SeenClassifier(nn.Module):
    """P(y | x) over the seen classes, for the classification loss of f-CLSWGAN: softmax of s (W x + b).

    s is CLIP's logit scale. Without it the softmax of unit features could not become sharp.
    """

    def __init__(self, embed_dim: int, classes: ClassSet) -> None:
        super().__init__()
        self.linear = nn.Linear(embed_dim, len(classes.seen_ids))
        self.scale = classes.logit_scale
        self.register_buffer("label_to_index", index_by_label(classes.seen_ids, len(classes)))
        self.label_to_index: Tensor  # (C,) position of each class among the seen ones

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy () of features (N, D) with labels (N,), on the host, among the task's classes."""
        return F.cross_entropy(self.scale * self.linear(x), gather(self.label_to_index, labels))


def fit_seen_classifier(
    train: LabelledFeatures, classes: ClassSet, epochs: int, rng: torch.Generator
) -> SeenClassifier:
    """Fit the classifier on real features, in batches of 100 with Adam at 0.001 (LisGAN's code), and freeze it."""
    model = init_weights(SeenClassifier(train.features.shape[-1], classes), rng).to(train.features.device)
    optimizer = torch.optim.Adam(model.parameters(), 0.001, BETAS)
    for x, labels in Batches(train, None, epochs, 100, 0.0, rng):
        _step(optimizer, model.loss(x, labels))
    return model.requires_grad_(False)
