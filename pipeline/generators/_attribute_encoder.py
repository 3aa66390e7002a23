"""What f-VAEGAN and TF-VAEGAN share: the decoder from attributes with an encoder beside it, and its two losses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from pipeline.generators._attribute_generator import LEAK, AttributeGenerator
from pipeline.generators._networks import mlp
from pipeline.generators._vae import elbo_terms, reparameterize
from pipeline.generators._wgan import BETAS, AdversarialGenerator, Generate
from pipeline.training.data import ClassSet, LabelledFeatures, gather


class AttributeVae(AttributeGenerator):
    """E(x, a): [x, a] -> hidden -> (mu, log sigma^2), beside G(z, a).

    Args:
        embed_dim: D, of features and attributes.
        hidden: hidden units of G.
        encoder_width: hidden units of E.
        latent: Z, the size of z; D if None.
    """

    def __init__(self, embed_dim: int, hidden: int, encoder_width: int, latent: int | None = None) -> None:
        super().__init__(embed_dim, [hidden], latent)
        self.encoder = mlp(2 * embed_dim, encoder_width, 2 * self.latent, leak=LEAK)

    def posterior(self, x: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log sigma^2 (N, Z) of features (N, D) with the attributes (N, D) of their classes."""
        mu, log_var = self.encoder(torch.cat([x, attributes], dim=-1)).chunk(2, dim=-1)
        return mu, log_var

    def encode(self, images: LabelledFeatures, classes: ClassSet) -> tuple[Tensor, Tensor]:
        """Return the posterior (N, Z), (N, Z) of each image's centre crop, given the attributes of its class."""
        return self.posterior(images.centre, classes.text_features[images.labels])

    def reconstruct(self, x: Tensor, attributes: Tensor, rng: torch.Generator) -> Tensor:
        """Encode features (N, D), draw a latent from each posterior, and decode it: (N, D)."""
        mu, log_var = self.posterior(x, attributes)
        return self.decode(reparameterize(mu, log_var, rng), attributes)

    def vae_losses(self, x: Tensor, x_hat: Tensor, attributes: Tensor) -> dict[str, Tensor]:
        """Return the two terms () of L_VAE for features, their reconstructions and their attributes, (N, D) each."""
        # The posterior is computed again, because `train_wgan` passes on the reconstructions alone.
        mu, log_var = self.posterior(x, attributes)
        reconstruction, kl = elbo_terms(x, x_hat, mu, log_var)
        return {"reconstruction": reconstruction, "kl": kl}


class VaeGan(AdversarialGenerator):
    """Settings of a VAE and a WGAN-GP that share their decoder. The values are those of TF-VAEGAN's code on CUB."""

    encoder_width: PositiveInt = 4096  # hidden units of E (code)
    generator_width: PositiveInt = 4096  # hidden units of G and, in TF-VAEGAN, of Dec and F (code)
    adversarial_weight: NonNegativeFloat = 10.0  # gamma (code: gammaG)
    encoded_noise: bool = True  # fakes are the reconstructions; false: of z ~ N(0, I) (code: false on FLO)

    def fakes_of(self, model: AttributeVae, classes: ClassSet, rng: torch.Generator) -> Generate:
        """Return the function that makes fakes (B, D) of real features (B, D) and their labels (B,)."""

        def generate(x: Tensor, labels: Tensor) -> Tensor:
            attributes = gather(classes.text_features, labels)
            return model.reconstruct(x, attributes, rng) if self.encoded_noise else model.generate(attributes, rng)

        return generate

    def vae_losses(
        self, model: AttributeVae, x: Tensor, fake: Tensor, attributes: Tensor, rng: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the terms () of L_VAE for features, their fakes and their attributes, (B, D) each."""
        x_hat = fake if self.encoded_noise else model.reconstruct(x, attributes, rng)
        return model.vae_losses(x, x_hat, attributes)


def vae_gan_adam(model: AttributeVae, others: Sequence[nn.Module], learning_rate: float) -> torch.optim.Adam:
    """Return the optimizer of E, which has Adam's usual betas, and of the other networks (TF-VAEGAN's code)."""
    optimizer = torch.optim.Adam(model.encoder.parameters(), learning_rate, (0.9, 0.999), fused=True)
    rest = [p for module in others for p in module.parameters()]
    optimizer.add_param_group({"params": rest, "betas": BETAS})
    return optimizer
