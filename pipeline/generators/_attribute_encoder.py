"""The decoder from attributes with the encoder that f-VAEGAN and TF-VAEGAN put beside it."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.generators._attribute_generator import LEAK, AttributeGenerator
from pipeline.generators._networks import mlp
from pipeline.generators._vae import drawn, elbo_terms
from pipeline.training.data import ClassSet, LabelledFeatures


class AttributeVae(AttributeGenerator):
    """E(x, a): [x, a] -> hidden -> (mu, log sigma^2), beside G(z, a); E has `encoder_width` hidden units."""

    def __init__(self, embed_dim: int, hidden: int, encoder_width: int, latent: int | None = None) -> None:
        super().__init__(embed_dim, [hidden], latent)
        self.encoder = mlp(2 * embed_dim, encoder_width, 2 * self.latent, leak=LEAK)

    def posterior(self, x: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor]:
        """Features and attributes (N, D) to mu and log sigma^2 (N, Z)."""
        mu, log_var = self.encoder(torch.cat([x, attributes], dim=-1)).chunk(2, dim=-1)
        return mu, log_var

    def latents(self, images: LabelledFeatures, classes: ClassSet) -> tuple[Tensor, Tensor]:
        """The posterior of each image's centre crop and its class's attributes."""
        return self.posterior(images.centre, classes.text_features[images.labels])

    def reconstruct(self, x: Tensor, attributes: Tensor, rng: torch.Generator) -> Tensor:
        """Features (N, D), each encoded, drawn and decoded: (N, D)."""
        return self.decode(drawn(*self.posterior(x, attributes), rng), attributes)

    def bound(self, x: Tensor, made: Tensor, attributes: Tensor) -> dict[str, Tensor]:
        """The two terms of L_VAE for real features and their reconstructions (N, D)."""
        reconstruction, kl = elbo_terms(x, made, *self.posterior(x, attributes))
        return {"reconstruction": reconstruction, "kl": kl}
