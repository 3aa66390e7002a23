"""TF-VAEGAN: f-VAEGAN with a decoder of attributes that feeds back (Narayan et al. 2020); SHIP Table 3, "TF-VAEGAN".

L = L_VAE + gamma L_WGAN + beta L_R. Dec reads the attributes back, and L_R is the weighted L1 distance of Dec(G(z, a))
to a. F turns Dec's hidden layer into a correction of G's: the first pass gives x = G(z, a), then G's hidden layer plus
delta F(Dec_h(x)) gives the fake. Dec learns from real features, and from fakes unless `freeze_dec`.

SHIP ran it on CLIP's features with a from "a photo of a {class}": unseen / seen / H 21.1 / 84.4 / 34.0 on CUB, 43.7 /
96.3 / 60.1 on AWA2, 37.4 / 97.2 / 54.0 on FLO.

Differs from the official code (tfvaegan a0de81c, checked 2026-11):

- G's output has unit length and L_VAE's reconstruction is SHIP's squared error; the code has a sigmoid and the binary
  cross-entropy of features scaled to [0, 1].
- The encoder has one hidden layer.
- lambda is constant.
- Training alternates between steps without and with feedback; the code alternates between passes.
- The classifier's extra input, Dec's hidden layer, is left out, because a sample is a feature and nothing else.
"""

from __future__ import annotations

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from features.text.text_tower import TextTower
from pipeline.generators._attribute_encoder import AttributeVae, VaeGan, vae_gan_adam
from pipeline.generators._attribute_generator import LEAK
from pipeline.generators._networks import freeze_trained, init_weights, mlp
from pipeline.generators._wgan import adam, train_wgan
from pipeline.generators.base import Log
from pipeline.training.data import ClassSet, LabelledFeatures, gather


class TfVaeGanGenerator(AttributeVae):
    """f-VAEGAN's networks, Dec and F.

    Attributes:
        feeds_back: whether `decode` makes the second pass; off only in every other step of training.
    """

    def __init__(self, embed_dim: int, settings: TfVaeGan) -> None:
        hidden = settings.generator_width
        super().__init__(embed_dim, hidden, settings.encoder_width, settings.latent)
        self.attribute_decoder = mlp(embed_dim, hidden, embed_dim, leak=LEAK)
        self.feedback = nn.Sequential(mlp(hidden, hidden, hidden, leak=LEAK), nn.LeakyReLU(LEAK))
        self.delta = settings.feedback_weight
        self.feeds_back = True

    def decode_attributes(self, x: Tensor) -> Tensor:
        """Return Dec(x), the attributes (N, D) that Dec reads in features (N, D), scaled to unit length."""
        return F.normalize(self.attribute_decoder(x), dim=-1)

    def decode(self, z: Tensor, attributes: Tensor) -> Tensor:
        """Map latents (N, Z) and attributes (N, D) to unit features (N, D), in two passes with feedback between."""
        # `[:2]` is a network's first linear layer and its leaky ReLU, `[2]` its output layer.
        hidden = self.decoder[:2](torch.cat([z, attributes], dim=-1))
        first = F.normalize(self.decoder[2](hidden), dim=-1)
        if not self.feeds_back:
            return first

        dec_hidden = self.attribute_decoder[:2](first).detach()  # no gradient to the first pass, as in the code
        return F.normalize(self.decoder[2](hidden + self.delta * self.feedback(dec_hidden)), dim=-1)


class TfVaeGan(VaeGan):
    """Settings of TF-VAEGAN. The inherited values are those of its official code too."""

    latent: PositiveInt | None = None  # Z, size of z; null: D, that of the attributes (code)
    attribute_weight: NonNegativeFloat = 0.01  # beta, of L_R (code: 0.01 on CUB, 0.1 on AWA)
    freeze_dec: bool = False  # true: Dec does not learn from fakes (code: true on AWA alone)
    feedback_weight: NonNegativeFloat = 1.0  # delta (code: a1 = a2 = 1 on CUB)
    feedback_learning_rate: PositiveFloat = 0.00001  # Adam, for F (code)
    epochs: PositiveInt = 20  # passes over the seen images (code: 120 to 500; 50 take 15 minutes)

    def build(self, embed_dim: int, tower: TextTower, rng: torch.Generator) -> TfVaeGanGenerator:  # noqa: ARG002
        """Return all networks with weights from N(0, 0.02^2) and biases 0 (code)."""
        return init_weights(TfVaeGanGenerator(embed_dim, self), rng)

    def fit(
        self, train: LabelledFeatures, classes: ClassSet, tower: TextTower, rng: torch.Generator, log: Log
    ) -> TfVaeGanGenerator:
        """Train as f-VAEGAN with L_R and feedback; Dec learns from the critic's real batches and from fakes."""
        model = self.build(train.features.shape[-1], tower, rng).to(train.features.device)
        model.feeds_back = False  # the first steps run without feedback (code)
        dec_optimizer = adam([model.attribute_decoder], self.learning_rate)
        optimizer = vae_gan_adam(model, [model.decoder], self.learning_rate)
        optimizer.add_param_group({"params": [*model.feedback.parameters()], "lr": self.feedback_learning_rate})

        def train_attribute_decoder(x: Tensor, labels: Tensor) -> None:
            dec_optimizer.zero_grad()
            loss = weighted_l1(model.decode_attributes(x), gather(classes.text_features, labels))
            loss.backward()  # type: ignore[no-untyped-call]
            dec_optimizer.step()
            dec_optimizer.zero_grad()  # what a generator step adds is of its fakes alone

        def extra_losses(x: Tensor, labels: Tensor, fake: Tensor) -> dict[str, Tensor]:
            attributes = gather(classes.text_features, labels)
            losses = self.vae_losses(model, x, fake, attributes, rng)
            losses["attributes"] = self.attribute_weight * weighted_l1(model.decode_attributes(fake), attributes)

            # Called once per generator step. Steps up to the next call run with feedback if those before it ran
            # without, and the other way round.
            model.feeds_back = not model.feeds_back
            return losses

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
            on_real_batch=train_attribute_decoder,
            optimizer=optimizer,
            after_step=None if self.freeze_dec else dec_optimizer.step,
        )
        model.feeds_back = True
        return freeze_trained(model, "tf_vaegan")


def weighted_l1(decoded: Tensor, attributes: Tensor) -> Tensor:
    """Return L_R (): sum over D of w |e|, e = decoded - a (N, D), w = e^2 / ||e||_2, averaged over N (code)."""
    error = decoded - attributes
    weight = error.square() / error.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    loss: Tensor = (weight * error.abs()).sum(-1).mean()
    return loss
