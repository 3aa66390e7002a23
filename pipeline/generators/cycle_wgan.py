"""cycle-WGAN: fakes from which the class's attributes can be read back (Felix et al. 2018); SHIP Table 3, row 2.

min_G max_D L_WGAN + lambda_cyc L_CYC, where L_CYC = E||a - R(G(z, a))||^2 over seen classes. R is a linear regression
from features to attributes, fitted on real features beforehand and frozen.

SHIP's Table 3 gives 47.9 / 59.3 / 53.0 on CUB for this row. These numbers are no target: they are those of the authors'
cycle-UWGAN, which closes the cycle over the names of unseen classes too, on ResNet-101 features with expert attributes.
No generator here reads unseen names before it synthesizes, so that a class can be added without training. Features are
CLIP's, and a is the class's text feature.

Differs from the paper:

- G's output has unit length instead of a ReLU.
- The critic learns at the generator's rate (code: 0.001).
- R is fitted by Adam at 0.001 for as many epochs as are set, not for four at 0.0001, which would hardly move it on unit
  features.
"""

from __future__ import annotations

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from features.text.text_tower import TextTower
from pipeline.generators._attribute_generator import AttributeGenerator
from pipeline.generators._networks import freeze_trained, init_weights
from pipeline.generators._wgan import AdversarialGenerator, train_wgan
from pipeline.generators.base import Log
from pipeline.training.data import ClassSet, LabelledFeatures, gather
from pipeline.training.loop import Batches


class CycleWgan(AdversarialGenerator):
    """Settings of cycle-WGAN. The inherited values are those of its official code too."""

    latent: PositiveInt | None = None  # Z, size of z; null: D, that of the attributes (code)
    generator_width: PositiveInt = 4096  # hidden units of G (code)
    cycle_weight: NonNegativeFloat = 0.01  # lambda_cyc (code: r_beta)
    regressor_epochs: PositiveInt = 100  # passes that fit R beforehand
    epochs: PositiveInt = 50  # passes over the seen images (as SHIP's; the code's differ by data set)

    def build(self, embed_dim: int, tower: TextTower, rng: torch.Generator) -> AttributeGenerator:  # noqa: ARG002
        """Return G with weights from N(0, 0.02^2) and biases 0."""
        return init_weights(AttributeGenerator(embed_dim, [self.generator_width], self.latent), rng)

    def fit(
        self, train: LabelledFeatures, classes: ClassSet, tower: TextTower, rng: torch.Generator, log: Log
    ) -> AttributeGenerator:
        """Fit the regressor, then train against the critic."""
        # `rng` is drawn from in this order (G's weights, R, training), so the order is part of what a seed gives.
        model = self.build(train.features.shape[-1], tower, rng).to(train.features.device)
        regressor = fit_regressor(train, classes, self.regressor_epochs, rng)

        def generate(_: Tensor, labels: Tensor) -> Tensor:
            return model.generate(gather(classes.text_features, labels), rng)

        def extra_losses(_: Tensor, labels: Tensor, fake: Tensor) -> dict[str, Tensor]:
            return {"cycle": self.cycle_weight * cycle_loss(regressor, fake, gather(classes.text_features, labels))}

        train_wgan(model, train, classes, self, generate=generate, extra_losses=extra_losses, rng=rng, log=log)
        return freeze_trained(model, "cycle_wgan")


def cycle_loss(regressor: nn.Module, features: Tensor, attributes: Tensor) -> Tensor:
    """Return E||a - R(x)||^2 of features (N, D) and attributes (N, D): summed over D, averaged over N."""
    error: Tensor = (attributes - regressor(features)).square().sum(-1).mean()
    return error


def fit_regressor(train: LabelledFeatures, classes: ClassSet, epochs: int, rng: torch.Generator) -> nn.Module:
    """Fit R, D -> D, to real features and the attributes of their classes, and freeze it."""
    width = train.features.shape[-1]
    regressor = init_weights(nn.Linear(width, width), rng).to(train.features.device)
    optimizer = torch.optim.Adam(regressor.parameters(), 0.001)

    for x, labels in Batches(train, None, epochs, 64, 0.0, rng):
        # The mean over D where L_CYC has the sum: Adam is invariant to such a factor, except for its epsilon.
        loss = F.mse_loss(regressor(x), gather(classes.text_features, labels))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return regressor.requires_grad_(False)
