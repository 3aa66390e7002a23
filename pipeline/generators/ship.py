"""SHIP: a VAE whose decoder is CLIP's text tower reading synthesized prompts (Wang et al. 2023, section 3.2).

Row "V, T" of the paper's Table 4, and "+ SHIP" of its Tables 1 to 3. Encoder E(x): Linear D -> 4096 -> ReLU ->
(mu, log sigma^2), of the latent size Z each. MLP: z -> 4096 -> ReLU -> r, of the token width W. Prompt (Eq. 3, 4):
`[SOS] p_1 + r .. p_L + r [class] . [EOS]`; its unit text feature is the reconstruction. Loss (Eq. 2): reconstruction +
KL, each summed over its dimensions and averaged over the batch, as the official code has it; the paper's "MSE" taken as
a mean would weigh the reconstruction D times less (`reconstruction: mean`).

Differs from the official code: E is 4096 wide as the paper says (code: 2048 but for ImageNet), and an image's views are
drawn from the stored ones instead of being augmented anew.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from features.text.text_tower import TextTower
from pipeline.generators._networks import draw_weights, finished
from pipeline.generators._prompt_vae import PromptVae
from pipeline.generators._vae import train_vae
from pipeline.generators.base import Generator, Log
from pipeline.training.data import ClassSet, LabelledFeatures

Width = Annotated[int, Field(ge=1)]


class Ship(Generator):
    """Settings of SHIP."""

    prompt_length: Annotated[int, Field(ge=1, le=16)] = 4  # L, global prompt vectors (Table 6: 4 is best)
    global_prompt: bool = True  # p beside r (Table 5: better with)
    sequential: bool = False  # r_1 .. r_L in place of one r for all L (Table 5: better without)
    latent: Width | None = None  # Z, size of z; null: the token width (section 4.1)
    encoder_width: Width = 4096  # hidden units of E (paper 4096; code 2048 but for ImageNet)
    generator_width: Width = 4096  # hidden units of the MLP (paper and code)
    reconstruction: Literal["sum", "mean"] = "sum"  # over D (paper "MSE"; code sums)
    kl_weight: Annotated[float, Field(ge=0)] = 1.0  # paper and code
    epochs: Annotated[int, Field(ge=1)] = 50  # passes over the seen images (code; 10 for ImageNet)
    batch: Annotated[int, Field(ge=1)] = 256  # images a step (code)
    learning_rate: Annotated[float, Field(gt=0)] = 0.001  # AdamW (paper)
    weight_decay: Annotated[float, Field(ge=0)] = 0.01  # AdamW (code: torch's default)

    def build(self, embed_dim: int, tower: TextTower, rng: torch.Generator) -> PromptVae:
        """Weights N(0, 0.02^2), biases 0, prompt N(0, 0.02^2) (code)."""
        model = PromptVae(
            embed_dim,
            tower.config.width,
            encoder_width=self.encoder_width,
            length=self.prompt_length,
            hidden=self.generator_width,
            latent=self.latent,
            global_prompt=self.global_prompt,
            sequential=self.sequential,
        )
        return draw_weights(model, rng)

    def fit(
        self, train: LabelledFeatures, classes: ClassSet, tower: TextTower, rng: torch.Generator, log: Log
    ) -> PromptVae:
        """Maximise the evidence lower bound; the text tower stays frozen."""
        model = self.build(train.features.shape[-1], tower, rng).to(train.features.device)

        def decode(z: Tensor, labels: Tensor) -> Tensor:
            return model.decode(z, classes.tokens[labels], tower)

        train_vae(model, train, self, decode=decode, rng=rng, log=log)
        return finished(model, "ship")
