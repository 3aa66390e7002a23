"""cycle-WGAN: fakes from which the class's attributes can be read back (Felix et al. 2018); SHIP Table 3, row 2.

min_G max_D L_WGAN + lambda_cyc L_CYC, where L_CYC = E||a - R(G(z, a))||^2 over seen classes; R is a linear regression
from features to attributes, fitted on real features beforehand and frozen. The numbers of SHIP's Table 3 (47.9 / 59.3 /
53.0 on CUB) are those of the authors' cycle-UWGAN, which closes the cycle over the names of unseen classes too, on
ResNet-101 features with expert attributes. No generator here reads these names before it synthesizes, so that a class
can be added without training; features are CLIP's and a is the class's text feature. So the numbers are no target.

Differs from the paper: G's output has unit length where it had a ReLU; the critic learns as fast as the generator; R is
fitted by Adam at 0.001 for as many epochs as are set, not for four at 0.0001, which unit features would hardly move.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from features.text.text_tower import TextTower
from pipeline.generators._attribute_generator import AttributeGenerator, noise
from pipeline.generators._networks import draw_weights, finished
from pipeline.generators._wgan import train_wgan
from pipeline.generators.base import Generator, Log
from pipeline.training.data import ClassSet, LabelledFeatures, at
from pipeline.training.loop import Batches

Width = Annotated[int, Field(ge=1)]


class CycleWgan(Generator):
    """Settings of cycle-WGAN."""

    latent: Width | None = None  # Z, size of z; null: D, that of the attributes (code)
    generator_width: Width = 4096  # hidden units of G (code)
    critic_width: Width = 4096  # hidden units of D (code)
    critic_steps: Annotated[int, Field(ge=1)] = 5  # of the critic for one of the generator (WGAN-GP)
    gradient_penalty: Annotated[float, Field(ge=0)] = 10.0  # lambda (code)
    cycle_weight: Annotated[float, Field(ge=0)] = 0.01  # lambda_cyc (code: r_beta)
    regressor_epochs: Annotated[int, Field(ge=1)] = 100  # passes that fit R beforehand
    epochs: Annotated[int, Field(ge=1)] = 50  # passes over the seen images (as SHIP's; the code's differ by data set)
    batch: Annotated[int, Field(ge=1)] = 64  # images a step (code)
    learning_rate: Annotated[float, Field(gt=0)] = 0.0001  # Adam (code; its critic's 0.001)

    def build(self, embed_dim: int, tower: TextTower, rng: torch.Generator) -> AttributeGenerator:  # noqa: ARG002
        """Weights N(0, 0.02^2), biases 0."""
        return draw_weights(AttributeGenerator(embed_dim, [self.generator_width], self.latent), rng)

    def fit(
        self, train: LabelledFeatures, classes: ClassSet, tower: TextTower, rng: torch.Generator, log: Log
    ) -> AttributeGenerator:
        """Fit the regressor, then play against the critic."""
        model = self.build(train.features.shape[-1], tower, rng).to(train.features.device)
        regressor = fitted_regressor(train, classes, self.regressor_epochs, rng)

        def fake(x: Tensor, labels: Tensor) -> Tensor:
            return model.decode(noise(x, model.latent, rng), at(classes.text_features, labels))

        def terms(_: Tensor, labels: Tensor, made: Tensor) -> dict[str, Tensor]:
            return {"cycle": self.cycle_weight * cycle_loss(regressor, made, at(classes.text_features, labels))}

        train_wgan(model, train, classes, self, fake=fake, terms=terms, rng=rng, log=log)
        return finished(model, "cycle_wgan")


def cycle_loss(regressor: nn.Module, features: Tensor, attributes: Tensor) -> Tensor:
    """E||a - R(x)||^2 of features (N, D) and attributes (N, D): squared error, summed over D, averaged over N."""
    error: Tensor = (attributes - regressor(features)).square().sum(-1).mean()
    return error


def fitted_regressor(train: LabelledFeatures, classes: ClassSet, epochs: int, rng: torch.Generator) -> nn.Module:
    """R, fitted to real features and the attributes of their classes, and frozen."""
    width = train.features.shape[-1]
    regressor = draw_weights(nn.Linear(width, width), rng).to(train.features.device)
    optimizer = torch.optim.Adam(regressor.parameters(), 0.001)
    for x, labels in Batches(train, None, epochs, 64, 0.0, rng):
        loss = F.mse_loss(regressor(x), at(classes.text_features, labels))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return regressor.requires_grad_(False)
