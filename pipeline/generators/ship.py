"""SHIP: a VAE whose decoder is CLIP's text tower reading synthesized prompts (Wang et al. 2023, section 3.2).

Row "V, T" of the paper's Table 4, and "+ SHIP" of its Tables 1 to 3.

- Encoder E(x): Linear D -> 4096 -> ReLU -> (mu, log sigma^2), of the latent size Z each.
- MLP: z -> 4096 -> ReLU -> r, of the token width W.
- Prompt (Eq. 3, 4): `[SOS] p_1 + r .. p_L + r [class] . [EOT]`; its unit text feature is the reconstruction.
- Loss (Eq. 2): reconstruction + KL, each summed over its dimensions and averaged over the batch, as in the official
  code. The paper's "MSE" taken as a mean would weigh the reconstruction D times less (`reconstruction: mean`).

Differs from the official code (492854e, read 2026-11): E is 4096 wide as the paper says (code: 2048, except for
ImageNet), the MLP has a ReLU on ImageNet, too (code: LeakyReLU 0.2 there, see `leak`), the views of an image are drawn
from the stored ones instead of being augmented anew, and methods learn from a stored pool of samples
(`synthesis.per_class`), while the code draws new ones at each of their steps.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from features.text.text_tower import TextTower
from pipeline.generators._networks import freeze_trained, init_weights
from pipeline.generators._prompt_vae import PromptVae
from pipeline.generators._vae import VaeGenerator, train_vae
from pipeline.generators.base import Log
from pipeline.training.data import ClassSet, LabelledFeatures


class Ship(VaeGenerator):
    """Settings of SHIP. The values of the loss and of the optimizer are those of `VaeGenerator`."""

    reads_images: ClassVar[bool] = True

    prompt_length: Annotated[int, Field(ge=1, le=16)] = 4  # L, global prompt vectors (Table 6: 4 is best)
    global_prompt: bool = True  # p beside r (Table 5: better with)
    sequential: bool = False  # r_1 .. r_L instead of one r for all L (Table 5: better without)
    latent: PositiveInt | None = None  # Z, size of z; null: the token width (section 4.1)
    encoder_width: PositiveInt = 4096  # hidden units of E (paper 4096; code 2048, except for ImageNet)
    generator_width: PositiveInt = 4096  # hidden units of the MLP (paper and code)
    leak: Annotated[float, Field(ge=0, lt=1)] = 0.0  # slope of the MLP's ReLU below 0 (paper; code 0.2 on ImageNet)

    def build(self, embed_dim: int, tower: TextTower, rng: torch.Generator) -> PromptVae:
        """Return E and MLP with weights and prompt from N(0, 0.02^2) and biases 0 (code)."""
        model = PromptVae(
            embed_dim,
            tower.config.width,
            encoder_width=self.encoder_width,
            length=self.prompt_length,
            hidden=self.generator_width,
            latent=self.latent,
            global_prompt=self.global_prompt,
            sequential=self.sequential,
            leak=self.leak,
        )
        return init_weights(model, rng)

    def fit(
        self, train: LabelledFeatures, classes: ClassSet, tower: TextTower, rng: torch.Generator, log: Log
    ) -> PromptVae:
        """Maximise the evidence lower bound; the text tower stays frozen."""
        model = self.build(train.features.shape[-1], tower, rng).to(train.features.device)

        def decode(z: Tensor, labels: Tensor) -> Tensor:
            return model.decode(z, classes.tokens[labels], tower)

        train_vae(model, train, self, decode=decode, rng=rng, log=log)
        return freeze_trained(model, "ship")
