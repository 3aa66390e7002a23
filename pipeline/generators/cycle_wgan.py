"""cycle-WGAN: fakes from which the class's attributes can be read back (Felix et al. 2018); SHIP Table 3, row 2.

min_G max_D L_WGAN + lambda_cyc L_CYC, where L_CYC = E||a - R(G(z, a))||^2 / D over seen classes; the mean over D is the
code's, the paper has the sum, which is 384 to 1,024 times stronger at the same lambda_cyc. R is a linear regression
from features to attributes, fitted on real features beforehand and frozen.

SHIP's Table 3 gives 47.9 / 59.3 / 53.0 on CUB for this row. These numbers are no target: they are those of the authors'
cycle-UWGAN, which closes the cycle over the names of unseen classes too, on ResNet-101 features with expert attributes.
No generator here reads unseen names before it synthesizes, so that a class can be added without training. Features are
CLIP's, and a is the class's text feature.

As in the code (frwgan-eccv18 46a379b, checked 2026-11): one critic step per generator step, the critic at 0.001, Adam's
usual betas, Xavier's first weights, and a share of the real feature for each number in the gradient penalty. Differs:

- G's output has unit length instead of a ReLU.
- R is fitted for 100 epochs at 0.001; the code has 40 (SUN 100) at 0.0001.
- 50 epochs; the code has 350 to 1,000 by data set.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from features.text.text_tower import TextTower
from pipeline.generators._attribute_generator import AttributeGenerator
from pipeline.generators._networks import M, freeze_trained, init_xavier
from pipeline.generators._wgan import AdversarialGenerator, Betas, train_wgan
from pipeline.generators.base import Log
from pipeline.training.data import ClassSet, LabelledFeatures, gather
from pipeline.training.loop import Batches


class CycleWgan(AdversarialGenerator):
    """Settings of cycle-WGAN. The inherited values are those of its official code too."""

    betas: ClassVar[Betas] = (0.9, 0.999)
    mixes_numbers: ClassVar[bool] = True

    latent: PositiveInt | None = None  # Z, size of z; null: D, that of the attributes (code)
    generator_width: PositiveInt = 4096  # hidden units of G (code)
    critic_steps: PositiveInt = 1  # critic steps per generator step (code)
    critic_learning_rate: PositiveFloat = 0.001  # Adam, for the critic (code)
    cycle_weight: NonNegativeFloat = 0.01  # lambda_cyc (code: r_beta)
    regressor_epochs: PositiveInt = 100  # passes that fit R beforehand (code: 40, SUN 100)
    regressor_learning_rate: PositiveFloat = 0.001  # Adam, for R (code: 0.0001)
    epochs: PositiveInt = 50  # passes over the seen images (as SHIP's; code: 350 to 1,000 by data set)

    @property
    def critic_rate(self) -> float:
        """Return the critic's own learning rate."""
        return self.critic_learning_rate

    def init(self, module: M, rng: torch.Generator) -> M:
        """Return the module with Xavier's first weights and biases 0 (code)."""
        return init_xavier(module, rng)

    def build(self, embed_dim: int, tower: TextTower, rng: torch.Generator) -> AttributeGenerator:  # noqa: ARG002
        """Return G with Xavier's weights and biases 0 (code)."""
        return self.init(AttributeGenerator(embed_dim, [self.generator_width], self.latent), rng)

    def fit(
        self, train: LabelledFeatures, classes: ClassSet, tower: TextTower, rng: torch.Generator, log: Log
    ) -> AttributeGenerator:
        """Fit the regressor, then train against the critic."""
        # `rng` is drawn from in this order (G's weights, R, training), so the order is part of what a seed gives.
        model = self.build(train.features.shape[-1], tower, rng).to(train.features.device)
        regressor = self.fit_regressor(train, classes, rng)

        def generate(_: Tensor, labels: Tensor) -> Tensor:
            return model.generate(gather(classes.text_features, labels), rng)

        def extra_losses(_: Tensor, labels: Tensor, fake: Tensor) -> dict[str, Tensor]:
            return {"cycle": self.cycle_weight * cycle_loss(regressor, fake, gather(classes.text_features, labels))}

        train_wgan(model, train, classes, self, generate=generate, extra_losses=extra_losses, rng=rng, log=log)
        return freeze_trained(model, "cycle_wgan")

    def fit_regressor(self, train: LabelledFeatures, classes: ClassSet, rng: torch.Generator) -> nn.Module:
        """Fit R, D -> D, to real features and the attributes of their classes, and freeze it."""
        width = train.features.shape[-1]
        regressor = self.init(nn.Linear(width, width), rng).to(train.features.device)
        optimizer = torch.optim.Adam(regressor.parameters(), self.regressor_learning_rate)

        for x, labels in Batches(train, None, self.regressor_epochs, 64, 0.0, rng):
            loss = cycle_loss(regressor, x, gather(classes.text_features, labels))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        return regressor.requires_grad_(False)


def cycle_loss(regressor: nn.Module, features: Tensor, attributes: Tensor) -> Tensor:
    """Return the mean over N and D of (a - R(x))^2, for features (N, D) and attributes (N, D): () (code)."""
    return F.mse_loss(regressor(features), attributes)
