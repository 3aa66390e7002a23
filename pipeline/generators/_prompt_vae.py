"""The decoder that SHIP calls CLIP-based ("T" in its Table 4): the frozen text tower reads a synthesized prompt."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from features.text.text_tower import TextTower
from pipeline.generators._networks import mlp
from pipeline.generators._vae import Vae
from pipeline.generators.base import FittedGenerator
from pipeline.training.data import ClassSet


class PromptGenerator(FittedGenerator):
    """MLP: z -> hidden -> ReLU -> r, and the L global prompt vectors p (SHIP Eq. 3).

    Args:
        width: W, of a token embedding.
        length: L, prompt vectors.
        hidden: units of the MLP.
        latent: Z, numbers in z; W if None.
        global_prompt: without it p stays 0 and learns nothing.
        sequential: the MLP gives r_1 .. r_L, one for each vector, in place of one r for all.
    """

    def __init__(
        self,
        width: int,
        *,
        length: int,
        hidden: int,
        latent: int | None = None,
        global_prompt: bool = True,
        sequential: bool = False,
    ) -> None:
        super().__init__()
        self.latent = latent or width
        self.bias = mlp(self.latent, hidden, length * width if sequential else width)
        self.prompt = nn.Parameter(torch.zeros(length, width), requires_grad=global_prompt)

    def context(self, z: Tensor) -> Tensor:
        """Latents (N, Z) to prompts p + r (N, L, W) in token-embedding space."""
        bias: Tensor = self.bias(z).unflatten(-1, (-1, self.prompt.shape[-1]))
        return self.prompt + bias

    def decode(self, z: Tensor, tokens: Tensor, tower: TextTower) -> Tensor:
        """Latents (N, Z) and their classes' tokens (N, T), on the host, to unit features (N, D) (SHIP Eq. 4)."""
        features: Tensor = tower(self.context(z), tokens[:, None])
        return F.normalize(features.squeeze(1), dim=-1)

    def sample(self, class_ids: Tensor, classes: ClassSet, tower: TextTower, rng: torch.Generator) -> Tensor:
        """Decode z ~ N(0, I), one latent a feature."""
        z = torch.randn(len(class_ids), self.latent, generator=rng).to(self.prompt.device)
        return self.decode(z, classes.tokens_of(class_ids), tower)


class PromptVae(PromptGenerator, Vae):
    """SHIP's E beside its decoder: Linear D -> `encoder_width` -> ReLU -> (mu, log sigma^2), of Z each."""

    def __init__(
        self,
        embed_dim: int,
        width: int,
        *,
        encoder_width: int,
        length: int,
        hidden: int,
        latent: int | None = None,
        global_prompt: bool = True,
        sequential: bool = False,
    ) -> None:
        super().__init__(
            width, length=length, hidden=hidden, latent=latent, global_prompt=global_prompt, sequential=sequential
        )
        self.encoder = mlp(embed_dim, encoder_width, 2 * self.latent)

    def contexts_of_images(self, x: Tensor) -> Tensor:
        """Return the prompts (N, L, W) of unit image features (N, D): those of the mean of each image's posterior."""
        with torch.inference_mode():
            return self.context(self.posterior(x)[0])
