"""A VAE whose decoder is an MLP trained from scratch: row "V, S" of SHIP's Table 4 (base 79.05, new 69.32, H 73.41).

Encoder and loss are SHIP's (its Eq. 2), and so is what the paper does not say: latent size, widths, optimizer, epochs.
The decoder is the "three-layer MLP" of section 4.3, taken as three linear layers: [z, a] -> 4096 -> 4096 -> D, where a
is the class's text feature. No code of this row was published.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from features.text.text_tower import TextTower
from pipeline.generators._attribute_generator import AttributeGenerator
from pipeline.generators._networks import draw_weights, finished, mlp
from pipeline.generators._vae import Vae, train_vae
from pipeline.generators.base import Generator, Log
from pipeline.training.data import ClassSet, LabelledFeatures, at

Width = Annotated[int, Field(ge=1)]


class VaeScratchGenerator(AttributeGenerator, Vae):
    """SHIP's encoder beside the MLP decoder."""

    def __init__(self, embed_dim: int, width: int, settings: VaeScratch) -> None:
        super().__init__(embed_dim, [settings.generator_width] * 2, settings.latent or width)
        self.encoder = mlp(embed_dim, settings.encoder_width, 2 * self.latent)


class VaeScratch(Generator):
    """Settings of the VAE from scratch."""

    latent: Width | None = None  # Z, size of z; null: the token width, as SHIP's
    encoder_width: Width = 4096  # hidden units of E (as SHIP's)
    generator_width: Width = 4096  # units of each of the two hidden layers (as SHIP's MLP)
    reconstruction: Literal["sum", "mean"] = "sum"  # over D (as SHIP's)
    kl_weight: Annotated[float, Field(ge=0)] = 1.0  # as SHIP's
    epochs: Annotated[int, Field(ge=1)] = 50  # passes over the seen images (as SHIP's)
    batch: Annotated[int, Field(ge=1)] = 256  # images a step (as SHIP's)
    learning_rate: Annotated[float, Field(gt=0)] = 0.001  # AdamW (as SHIP's)
    weight_decay: Annotated[float, Field(ge=0)] = 0.01  # AdamW (as SHIP's)

    def build(self, embed_dim: int, tower: TextTower, rng: torch.Generator) -> VaeScratchGenerator:
        """Weights N(0, 0.02^2), biases 0, as SHIP's."""
        return draw_weights(VaeScratchGenerator(embed_dim, tower.config.width, self), rng)

    def fit(
        self, train: LabelledFeatures, classes: ClassSet, tower: TextTower, rng: torch.Generator, log: Log
    ) -> VaeScratchGenerator:
        """Maximise the evidence lower bound."""
        model = self.build(train.features.shape[-1], tower, rng).to(train.features.device)

        def decode(z: Tensor, labels: Tensor) -> Tensor:
            return model.decode(z, at(classes.text_features, labels))

        train_vae(model, train, self, decode=decode, rng=rng, log=log)
        return finished(model, "vae_scratch")
