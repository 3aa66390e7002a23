"""A WGAN-GP whose generator is an MLP trained from scratch: row "G, S" of SHIP's Table 4 (79.96 / 59.35 / 67.30).

min_G max_D E[D(x, a)] - E[D(G(z, a), a)] - lambda E[(||grad D(x', a)||_2 - 1)^2], z ~ N(0, I), a the class's text
feature, x' between real and fake (Gulrajani et al. 2017). The generator is SHIP's "three-layer MLP", taken as
three linear layers. The paper gives no setting of this row and no code was published: the critic and the optimizer are
those of f-CLSWGAN's code, the widths SHIP's.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from features.text.text_tower import TextTower
from pipeline.generators._attribute_generator import AttributeGenerator, noise
from pipeline.generators._networks import draw_weights, finished
from pipeline.generators._wgan import train_wgan
from pipeline.generators.base import Generator, Log
from pipeline.training.data import ClassSet, LabelledFeatures, at

Width = Annotated[int, Field(ge=1)]


class GanScratch(Generator):
    """Settings of the GAN from scratch."""

    latent: Width | None = None  # Z, size of z; null: the token width, as SHIP's
    generator_width: Width = 4096  # units of each of the two hidden layers (as SHIP's MLP)
    critic_width: Width = 4096  # hidden units of the critic (f-CLSWGAN)
    critic_steps: Annotated[int, Field(ge=1)] = 5  # of the critic for one of the generator (WGAN-GP)
    gradient_penalty: Annotated[float, Field(ge=0)] = 10.0  # lambda (WGAN-GP)
    epochs: Annotated[int, Field(ge=1)] = 20  # passes over the seen images (as `gan_clip`; 50 would take ten minutes)
    batch: Annotated[int, Field(ge=1)] = 64  # images a step (f-CLSWGAN's code)
    learning_rate: Annotated[float, Field(gt=0)] = 0.0001  # Adam, betas 0.5 and 0.999 (f-CLSWGAN's code)

    def build(self, embed_dim: int, tower: TextTower, rng: torch.Generator) -> AttributeGenerator:
        """Weights N(0, 0.02^2), biases 0."""
        hidden = [self.generator_width] * 2
        return draw_weights(AttributeGenerator(embed_dim, hidden, self.latent or tower.config.width), rng)

    def fit(
        self, train: LabelledFeatures, classes: ClassSet, tower: TextTower, rng: torch.Generator, log: Log
    ) -> AttributeGenerator:
        """Play against the critic."""
        model = self.build(train.features.shape[-1], tower, rng).to(train.features.device)

        def fake(x: Tensor, labels: Tensor) -> Tensor:
            return model.decode(noise(x, model.latent, rng), at(classes.text_features, labels))

        train_wgan(model, train, classes, self, fake=fake, terms=lambda *_: {}, rng=rng, log=log)
        return finished(model, "gan_scratch")
