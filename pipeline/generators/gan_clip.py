"""A WGAN-GP with SHIP's generator: row "G, T" of SHIP's Table 4 (base 77.69, new 67.32, H 71.68).

min_G max_D E[D(x, a)] - E[D(G(z, c), a)] - lambda E[(||grad D(x', a)||_2 - 1)^2], where z ~ N(0, I), a is the class's
text feature and x' lies between real and fake (Gulrajani et al. 2017). G(z, c) is the text feature of the prompt that
SHIP synthesizes from z before the name of class c (its Eq. 3, 4).

The paper gives no setting of this row and no code was published. The critic and the optimizer are those of f-CLSWGAN's
code, the prompt is SHIP's. 20 epochs cost as many passes through the text tower as SHIP's 50, because each generator
step follows five steps of the critic.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from features.text.text_tower import TextTower
from pipeline.generators._networks import draw_latents, freeze_trained, init_weights
from pipeline.generators._prompt_vae import PromptGenerator
from pipeline.generators._wgan import AdversarialGenerator, train_wgan
from pipeline.generators.base import Log
from pipeline.training.data import ClassSet, LabelledFeatures


class GanClip(AdversarialGenerator):
    """Settings of the GAN with the CLIP-based generator."""

    prompt_length: Annotated[int, Field(ge=1, le=16)] = 4  # L, global prompt vectors (as SHIP's)
    latent: PositiveInt | None = None  # Z, size of z; null: the token width, as SHIP's
    generator_width: PositiveInt = 4096  # hidden units of the MLP (as SHIP's)
    epochs: PositiveInt = 20  # passes over the seen images (see above)

    def build(self, embed_dim: int, tower: TextTower, rng: torch.Generator) -> PromptGenerator:  # noqa: ARG002
        """Return G with weights and prompt from N(0, 0.02^2) and biases 0."""
        model = PromptGenerator(
            tower.config.width, length=self.prompt_length, hidden=self.generator_width, latent=self.latent
        )
        return init_weights(model, rng)

    def fit(
        self, train: LabelledFeatures, classes: ClassSet, tower: TextTower, rng: torch.Generator, log: Log
    ) -> PromptGenerator:
        """Train against the critic; the text tower stays frozen."""
        model = self.build(train.features.shape[-1], tower, rng).to(train.features.device)

        def generate(x: Tensor, labels: Tensor) -> Tensor:
            z = draw_latents(len(labels), model.latent, rng, x.device)
            return model.decode(z, classes.tokens[labels], tower)

        train_wgan(model, train, classes, self, generate=generate, rng=rng, log=log)
        return freeze_trained(model, "gan_clip")
