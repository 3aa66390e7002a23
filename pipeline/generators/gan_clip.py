"""A WGAN-GP whose generator is SHIP's: row "G, T" of SHIP's Table 4 (base 77.69, new 67.32, H 71.68).

min_G max_D E[D(x, a)] - E[D(G(z, c), a)] - lambda E[(||grad D(x', a)||_2 - 1)^2], z ~ N(0, I), a the class's text
feature, x' between real and fake (Gulrajani et al. 2017). G(z, c) is the text feature of the prompt that SHIP
synthesizes from z before the name of class c (its Eq. 3, 4). The paper gives no setting of this row and no code was
published: the critic and the optimizer are those of f-CLSWGAN's code, the prompt SHIP's. 20 epochs cost as many passes
through the text tower as SHIP's 50, for each is followed by the critic's five.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from features.text.text_tower import TextTower
from pipeline.generators._attribute_generator import noise
from pipeline.generators._networks import draw_weights, finished
from pipeline.generators._prompt_vae import PromptGenerator
from pipeline.generators._wgan import train_wgan
from pipeline.generators.base import Generator, Log
from pipeline.training.data import ClassSet, LabelledFeatures

Width = Annotated[int, Field(ge=1)]


class GanClip(Generator):
    """Settings of the GAN with the CLIP-based generator."""

    prompt_length: Annotated[int, Field(ge=1, le=16)] = 4  # L, global prompt vectors (as SHIP's)
    latent: Width | None = None  # Z, size of z; null: the token width, as SHIP's
    generator_width: Width = 4096  # hidden units of the MLP (as SHIP's)
    critic_width: Width = 4096  # hidden units of the critic (f-CLSWGAN)
    critic_steps: Annotated[int, Field(ge=1)] = 5  # of the critic for one of the generator (WGAN-GP)
    gradient_penalty: Annotated[float, Field(ge=0)] = 10.0  # lambda (WGAN-GP)
    epochs: Annotated[int, Field(ge=1)] = 20  # passes over the seen images (see above)
    batch: Annotated[int, Field(ge=1)] = 64  # images a step (f-CLSWGAN's code)
    learning_rate: Annotated[float, Field(gt=0)] = 0.0001  # Adam, betas 0.5 and 0.999 (f-CLSWGAN's code)

    def build(self, embed_dim: int, tower: TextTower, rng: torch.Generator) -> PromptGenerator:  # noqa: ARG002
        """Weights N(0, 0.02^2), biases 0, prompt N(0, 0.02^2)."""
        width, hidden = tower.config.width, self.generator_width
        return draw_weights(PromptGenerator(width, length=self.prompt_length, hidden=hidden, latent=self.latent), rng)

    def fit(
        self, train: LabelledFeatures, classes: ClassSet, tower: TextTower, rng: torch.Generator, log: Log
    ) -> PromptGenerator:
        """Play against the critic; the text tower stays frozen."""
        model = self.build(train.features.shape[-1], tower, rng).to(train.features.device)

        def fake(x: Tensor, labels: Tensor) -> Tensor:
            return model.decode(noise(x, model.latent, rng), classes.tokens[labels], tower)

        train_wgan(model, train, classes, self, fake=fake, terms=lambda *_: {}, rng=rng, log=log)
        return finished(model, "gan_clip")
