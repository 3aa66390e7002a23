"""f-VAEGAN: a VAE and a WGAN-GP that share their decoder (Xian et al. 2019); SHIP Table 3, "f-VAEGAN" on CLIP.

L = L_VAE + gamma L_WGAN: encoder E(x, a), decoder G(z, a), critic D(x, a), where G's fakes are the
reconstructions. This is the inductive f-VAEGAN, without the second critic D2, which needs images of unseen classes.
SHIP ran it on CLIP's features with a from "a photo of a {class}": unseen / seen / H 22.5 / 82.2 / 35.3 on CUB, 61.2 /
95.9 / 74.7 on AWA2, 11.1 / 97.6 / 20.0 on FLO.

Settings are those of TF-VAEGAN's code with its two additions off, for f-VAEGAN's own was not published. Differs from
it: G's output has unit length and L_VAE's reconstruction is SHIP's squared error, where the code has a sigmoid and the
binary cross-entropy of features scaled to [0, 1]; the encoder has one hidden layer; lambda stays as it is.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from features.text.text_tower import TextTower
from pipeline.generators._attribute_encoder import AttributeVae
from pipeline.generators._networks import draw_weights, finished
from pipeline.generators._wgan import train_wgan
from pipeline.generators.base import Generator, Log
from pipeline.training.data import ClassSet, LabelledFeatures, at

Width = Annotated[int, Field(ge=1)]


class FVaeGan(Generator):
    """Settings of f-VAEGAN."""

    latent: Width | None = None  # Z, size of z; null: D, that of the attributes (code)
    encoder_width: Width = 4096  # hidden units of E (code)
    generator_width: Width = 4096  # hidden units of G (code)
    critic_width: Width = 4096  # hidden units of D (code)
    critic_steps: Annotated[int, Field(ge=1)] = 5  # of the critic for one of the generator (code)
    gradient_penalty: Annotated[float, Field(ge=0)] = 10.0  # lambda (code)
    adversarial_weight: Annotated[float, Field(ge=0)] = 10.0  # gamma (code: gammaG)
    epochs: Annotated[int, Field(ge=1)] = 50  # passes over the seen images (as SHIP's; code: 120 to 500)
    batch: Annotated[int, Field(ge=1)] = 64  # images a step (code)
    learning_rate: Annotated[float, Field(gt=0)] = 0.0001  # Adam, betas 0.5 and 0.999 (code)

    def build(self, embed_dim: int, tower: TextTower, rng: torch.Generator) -> AttributeVae:  # noqa: ARG002
        """Weights N(0, 0.02^2), biases 0 (code)."""
        model = AttributeVae(embed_dim, self.generator_width, self.encoder_width, self.latent)
        return draw_weights(model, rng)

    def fit(
        self, train: LabelledFeatures, classes: ClassSet, tower: TextTower, rng: torch.Generator, log: Log
    ) -> AttributeVae:
        """Reconstruct, and play against the critic with the reconstructions."""
        model = self.build(train.features.shape[-1], tower, rng).to(train.features.device)

        def fake(x: Tensor, labels: Tensor) -> Tensor:
            return model.reconstruct(x, at(classes.text_features, labels), rng)

        def terms(x: Tensor, labels: Tensor, made: Tensor) -> dict[str, Tensor]:
            return model.bound(x, made, at(classes.text_features, labels))

        weight = self.adversarial_weight
        train_wgan(model, train, classes, self, fake=fake, terms=terms, rng=rng, log=log, adversarial_weight=weight)
        return finished(model, "f_vaegan")
