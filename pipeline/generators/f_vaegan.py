"""f-VAEGAN: a VAE and a WGAN-GP that share their decoder (Xian et al. 2019); SHIP Table 3, "f-VAEGAN" on CLIP.

L = L_VAE + gamma L_WGAN, with encoder E(x, a), decoder G(z, a) and critic D(x, a). G's fakes are the reconstructions
(`encoded_noise`), and on FLO samples G(z, a) with z ~ N(0, I).
This is the inductive f-VAEGAN, without the second critic D2, which needs images of unseen classes. SHIP ran it on
CLIP's features with a from "a photo of a {class}": unseen / seen / H 22.5 / 82.2 / 35.3 on CUB, 61.2 / 95.9 / 74.7 on
AWA2, 11.1 / 97.6 / 20.0 on FLO.

f-VAEGAN's own code was not published. The settings are those of TF-VAEGAN's code (tfvaegan a0de81c, checked 2026-11)
with its two additions off. Differs from that code:

- G's output has unit length and L_VAE's reconstruction is SHIP's squared error; the code has a sigmoid and the binary
  cross-entropy of features scaled to [0, 1].
- The encoder has one hidden layer.
- lambda is constant.
"""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor

from features.text.text_tower import TextTower
from pipeline.generators._attribute_encoder import AttributeVae, VaeGan, vae_gan_adam
from pipeline.generators._networks import freeze_trained, init_weights
from pipeline.generators._wgan import train_wgan
from pipeline.generators.base import Log
from pipeline.training.data import ClassSet, LabelledFeatures, gather


class FVaeGan(VaeGan):
    """Settings of f-VAEGAN. The inherited values are those of TF-VAEGAN's code too."""

    latent: PositiveInt | None = None  # Z, size of z; null: D, that of the attributes (code)
    epochs: PositiveInt = 50  # passes over the seen images (as SHIP's; code: 120 to 500)

    def build(self, embed_dim: int, tower: TextTower, rng: torch.Generator) -> AttributeVae:  # noqa: ARG002
        """Return E and G with weights from N(0, 0.02^2) and biases 0 (code)."""
        model = AttributeVae(embed_dim, self.generator_width, self.encoder_width, self.latent)
        return init_weights(model, rng)

    def fit(
        self, train: LabelledFeatures, classes: ClassSet, tower: TextTower, rng: torch.Generator, log: Log
    ) -> AttributeVae:
        """Train E and G to reconstruct, with the reconstructions as fakes against the critic."""
        model = self.build(train.features.shape[-1], tower, rng).to(train.features.device)

        def extra_losses(x: Tensor, labels: Tensor, fake: Tensor) -> dict[str, Tensor]:
            return self.vae_losses(model, x, fake, gather(classes.text_features, labels), rng)

        train_wgan(
            model,
            train,
            classes,
            self,
            generate=self.fakes_of(model, classes, rng),
            extra_losses=extra_losses,
            rng=rng,
            log=log,
            adversarial_weight=self.adversarial_weight,
            optimizer=vae_gan_adam(model, [model.decoder], self.learning_rate),
        )
        return freeze_trained(model, "f_vaegan")
