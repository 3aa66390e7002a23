"""TF-VAEGAN: f-VAEGAN with a decoder of attributes that feeds back (Narayan et al. 2020); SHIP Table 3, "TF-VAEGAN".

L = L_VAE + gamma L_WGAN + beta L_R: Dec reads the attributes back, L_R is the weighted L1 distance of
Dec(G(z, a)) to a, and F turns Dec's hidden layer into a correction of G's: x = G(z, a) first, then G's hidden layer and
delta F(Dec_h(x)) give the fake. Dec itself learns from real features. SHIP ran it on CLIP's features with a from "a
photo of a {class}": unseen / seen / H 21.1 / 84.4 / 34.0 on CUB, 43.7 / 96.3 / 60.1 on AWA2, 37.4 / 97.2 / 54.0 on FLO.

Differs from the official code: G's output has unit length and L_VAE's reconstruction is SHIP's squared error, where the
code has a sigmoid and the binary cross-entropy of features scaled to [0, 1]; the encoder has one hidden layer; lambda
stays as it is; training goes without and with feedback by turns of a step, not of a pass; F learns at the others' rate;
and the classifier's extra input, Dec's hidden layer, is left out, for a sample is a feature and nothing else.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from features.text.text_tower import TextTower
from pipeline.generators._attribute_encoder import AttributeVae
from pipeline.generators._attribute_generator import LEAK
from pipeline.generators._networks import draw_weights, finished, mlp
from pipeline.generators._wgan import BETAS, train_wgan
from pipeline.generators.base import Generator, Log
from pipeline.training.data import ClassSet, LabelledFeatures, at

Width = Annotated[int, Field(ge=1)]


class TfVaeGanGenerator(AttributeVae):
    """f-VAEGAN's networks, Dec and F. `feeds_back` is off in every other step of training only."""

    def __init__(self, embed_dim: int, settings: TfVaeGan) -> None:
        hidden = settings.generator_width
        super().__init__(embed_dim, hidden, settings.encoder_width, settings.latent)
        self.attribute_decoder = mlp(embed_dim, hidden, embed_dim, leak=LEAK)
        self.feedback = nn.Sequential(mlp(hidden, hidden, hidden, leak=LEAK), nn.LeakyReLU(LEAK))
        self.delta = settings.feedback_weight
        self.feeds_back = True

    def read(self, x: Tensor) -> Tensor:
        """Features (N, D) to the attributes that Dec reads in them, unit length (N, D)."""
        return F.normalize(self.attribute_decoder(x), dim=-1)

    def decode(self, z: Tensor, attributes: Tensor) -> Tensor:
        """Latents (N, Z) and attributes (N, D) to unit features (N, D), by two passes with feedback between them."""
        hidden = self.decoder[:2](torch.cat([z, attributes], dim=-1))
        made = F.normalize(self.decoder[2](hidden), dim=-1)
        if not self.feeds_back:
            return made
        seen_by_dec = self.attribute_decoder[:2](made).detach()  # as the code has it: no gradient to the first pass
        return F.normalize(self.decoder[2](hidden + self.delta * self.feedback(seen_by_dec)), dim=-1)


class TfVaeGan(Generator):
    """Settings of TF-VAEGAN."""

    latent: Width | None = None  # Z, size of z; null: D, that of the attributes (code)
    encoder_width: Width = 4096  # hidden units of E (code)
    generator_width: Width = 4096  # hidden units of G, Dec and F (code)
    critic_width: Width = 4096  # hidden units of D (code)
    critic_steps: Annotated[int, Field(ge=1)] = 5  # of the critic for one of the generator (code)
    gradient_penalty: Annotated[float, Field(ge=0)] = 10.0  # lambda (code)
    adversarial_weight: Annotated[float, Field(ge=0)] = 10.0  # gamma (code: gammaG)
    attribute_weight: Annotated[float, Field(ge=0)] = 0.01  # beta, of L_R (code: 0.01 on CUB, 0.1 on AWA)
    feedback_weight: Annotated[float, Field(ge=0)] = 1.0  # delta (code: a1 = a2 = 1 on CUB)
    epochs: Annotated[int, Field(ge=1)] = 20  # passes over the seen images (code: 120 to 500; 50 take 15 minutes)
    batch: Annotated[int, Field(ge=1)] = 64  # images a step (code)
    learning_rate: Annotated[float, Field(gt=0)] = 0.0001  # Adam, betas 0.5 and 0.999 (code; F's 0.00001)

    def build(self, embed_dim: int, tower: TextTower, rng: torch.Generator) -> TfVaeGanGenerator:  # noqa: ARG002
        """Weights N(0, 0.02^2), biases 0 (code)."""
        return draw_weights(TfVaeGanGenerator(embed_dim, self), rng)

    def fit(
        self, train: LabelledFeatures, classes: ClassSet, tower: TextTower, rng: torch.Generator, log: Log
    ) -> TfVaeGanGenerator:
        """Reconstruct, read attributes back, and play against the critic; Dec learns beside the critic."""
        model = self.build(train.features.shape[-1], tower, rng).to(train.features.device)
        reader = torch.optim.Adam(model.attribute_decoder.parameters(), self.learning_rate, BETAS, fused=True)
        model.attribute_decoder.requires_grad_(False)  # no part of the generator's steps

        def read_real(x: Tensor, labels: Tensor) -> None:
            model.attribute_decoder.requires_grad_(True)
            reader.zero_grad()
            weighted_l1(model.read(x), at(classes.text_features, labels)).backward()  # type: ignore[no-untyped-call]
            reader.step()
            model.attribute_decoder.requires_grad_(False)

        def fake(x: Tensor, labels: Tensor) -> Tensor:
            return model.reconstruct(x, at(classes.text_features, labels), rng)

        def terms(x: Tensor, labels: Tensor, made: Tensor) -> dict[str, Tensor]:
            attributes = at(classes.text_features, labels)
            found = model.bound(x, made, attributes)
            found["attributes"] = self.attribute_weight * weighted_l1(model.read(made), attributes)
            model.feeds_back = not model.feeds_back
            return found

        weight = self.adversarial_weight
        train_wgan(
            model,
            train,
            classes,
            self,
            fake=fake,
            terms=terms,
            rng=rng,
            log=log,
            adversarial_weight=weight,
            with_critic=read_real,
        )
        model.feeds_back = True
        return finished(model, "tf_vaegan")


def weighted_l1(read: Tensor, attributes: Tensor) -> Tensor:
    """L_R: sum over D of w |e|, e = read - a (N, D), w = e^2 / ||e||_2, averaged over N (code)."""
    error = read - attributes
    weight = error.square() / error.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    loss: Tensor = (weight * error.abs()).sum(-1).mean()
    return loss
