"""A VAE with an MLP trained from scratch as decoder: row "V, S" of SHIP's Table 4 (base 79.05, new 69.32, H 73.41).

The encoder and the loss are SHIP's (its Eq. 2). What the paper does not say is as in SHIP too: latent size, widths,
optimizer, epochs. The decoder is the "three-layer MLP" of section 4.3, taken as three linear layers: [z, a] -> 4096 ->
4096 -> D, where a is the class's text feature. No code of this row was published.
"""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor

from features.text.text_tower import TextTower
from pipeline.generators._attribute_generator import AttributeGenerator
from pipeline.generators._networks import freeze_trained, init_weights, mlp
from pipeline.generators._vae import Vae, VaeGenerator, train_vae
from pipeline.generators.base import Log
from pipeline.training.data import ClassSet, LabelledFeatures, gather


class VaeScratchGenerator(AttributeGenerator, Vae):
    """SHIP's encoder beside the MLP decoder."""

    def __init__(self, embed_dim: int, width: int, settings: VaeScratch) -> None:
        super().__init__(embed_dim, [settings.generator_width] * 2, settings.latent or width)
        self.encoder = mlp(embed_dim, settings.encoder_width, 2 * self.latent)


class VaeScratch(VaeGenerator):
    """Settings of the VAE from scratch; all values are SHIP's."""

    latent: PositiveInt | None = None  # Z, size of z; null: the token width, as SHIP's
    encoder_width: PositiveInt = 4096  # hidden units of E (as SHIP's)
    generator_width: PositiveInt = 4096  # units of each of the two hidden layers (as SHIP's MLP)

    def build(self, embed_dim: int, tower: TextTower, rng: torch.Generator) -> VaeScratchGenerator:
        """Return E and decoder with weights from N(0, 0.02^2) and biases 0, as SHIP's."""
        return init_weights(VaeScratchGenerator(embed_dim, tower.config.width, self), rng)

    def fit(
        self, train: LabelledFeatures, classes: ClassSet, tower: TextTower, rng: torch.Generator, log: Log
    ) -> VaeScratchGenerator:
        """Maximise the evidence lower bound."""
        model = self.build(train.features.shape[-1], tower, rng).to(train.features.device)

        def decode(z: Tensor, labels: Tensor) -> Tensor:
            return model.decode(z, gather(classes.text_features, labels))

        train_vae(model, train, self, decode=decode, rng=rng, log=log)
        return freeze_trained(model, "vae_scratch")
