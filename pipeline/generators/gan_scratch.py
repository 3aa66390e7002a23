"""A WGAN-GP with an MLP trained from scratch as generator: row "G, S" of SHIP's Table 4 (79.96 / 59.35 / 67.30).

min_G max_D E[D(x, a)] - E[D(G(z, a), a)] - lambda E[(||grad D(x', a)||_2 - 1)^2], where z ~ N(0, I), a is the class's
text feature and x' lies between real and fake (Gulrajani et al. 2017). The generator is SHIP's "three-layer MLP", taken
as three linear layers.

The paper gives no setting of this row and no code was published. The critic and the optimizer are those of f-CLSWGAN's
code, the widths are SHIP's.
"""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor

from features.text.text_tower import TextTower
from pipeline.generators._attribute_generator import AttributeGenerator
from pipeline.generators._networks import freeze_trained, init_weights
from pipeline.generators._wgan import AdversarialGenerator, train_wgan
from pipeline.generators.base import Log
from pipeline.training.data import ClassSet, LabelledFeatures, gather


class GanScratch(AdversarialGenerator):
    """Settings of the GAN from scratch."""

    latent: PositiveInt | None = None  # Z, size of z; null: the token width, as SHIP's
    generator_width: PositiveInt = 4096  # units of each of the two hidden layers (as SHIP's MLP)
    epochs: PositiveInt = 20  # passes over the seen images (as `gan_clip`; 50 would take ten minutes)

    def build(self, embed_dim: int, tower: TextTower, rng: torch.Generator) -> AttributeGenerator:
        """Return G with weights from N(0, 0.02^2) and biases 0."""
        hidden = [self.generator_width] * 2
        return init_weights(AttributeGenerator(embed_dim, hidden, self.latent or tower.config.width), rng)

    def fit(
        self, train: LabelledFeatures, classes: ClassSet, tower: TextTower, rng: torch.Generator, log: Log
    ) -> AttributeGenerator:
        """Train against the critic."""
        model = self.build(train.features.shape[-1], tower, rng).to(train.features.device)

        def generate(_: Tensor, labels: Tensor) -> Tensor:
            return model.generate(gather(classes.text_features, labels), rng)

        train_wgan(model, train, classes, self, generate=generate, rng=rng, log=log)
        return freeze_trained(model, "gan_scratch")
