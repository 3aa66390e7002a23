"""The decoder that SHIP calls CLIP-based ("T" in its Table 4): the frozen text tower reads a synthesized prompt."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from features.text.text_tower import TextTower
from pipeline.generators._networks import draw_latents, mlp
from pipeline.generators._vae import Vae
from pipeline.generators.base import FittedGenerator
from pipeline.training.data import ClassSet


class PromptGenerator(FittedGenerator):
    """MLP: z -> hidden -> ReLU -> r, and the L global prompt vectors p (SHIP Eq. 3).

    Args:
        width: W, of a token embedding.
        length: L, the number of prompt vectors.
        hidden: hidden units of the MLP.
        latent: Z, the size of z; W if None.
        global_prompt: whether p is learned; without it, p stays 0.
        sequential: whether the MLP gives r_1 .. r_L, one for each vector, instead of one r for all.
        leak: slope of the MLP's ReLU below 0.
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
        leak: float = 0.0,
    ) -> None:
        super().__init__()
        self.latent = latent or width
        # r, the bias of an image or sample, which is added to the global prompt vectors.
        self.bias = mlp(self.latent, hidden, length * width if sequential else width, leak=leak)
        self.prompt = nn.Parameter(torch.zeros(length, width), requires_grad=global_prompt)

    def context(self, z: Tensor) -> Tensor:
        """Map latents (N, Z) to prompts p + r (N, L, W) in token-embedding space."""
        # (N, L, W) with `sequential`; otherwise (N, 1, W), which broadcasts over the L vectors of p.
        bias: Tensor = self.bias(z).unflatten(-1, (-1, self.prompt.shape[-1]))
        return self.prompt + bias

    def decode(self, z: Tensor, tokens: Tensor, tower: TextTower) -> Tensor:
        """Map latents (N, Z) and their classes' tokens (N, T), on the host, to unit features (N, D) (SHIP Eq. 4)."""
        # The tower takes G contexts with C classes each; here each context has the one class of its row.
        features: Tensor = tower(self.context(z), tokens[:, None])
        return F.normalize(features.squeeze(1), dim=-1)

    def sample(self, class_ids: Tensor, classes: ClassSet, tower: TextTower, rng: torch.Generator) -> Tensor:
        """Decode z ~ N(0, I), one latent per class id (N,), to unit features (N, D)."""
        z = draw_latents(len(class_ids), self.latent, rng, self.prompt.device)
        return self.decode(z, classes.tokens_of(class_ids), tower)


class PromptVae(PromptGenerator, Vae):
    """SHIP's encoder E beside its decoder: D -> `encoder_width` -> ReLU -> (mu, log sigma^2), of size Z each.

    Args:
        embed_dim: D, of features.
        width: W, of a token embedding.
        encoder_width: hidden units of E.
        length: L, the number of prompt vectors.
        hidden: hidden units of the MLP.
        latent: Z, the size of z; W if None.
        global_prompt: as in `PromptGenerator`.
        sequential: as in `PromptGenerator`.
        leak: as in `PromptGenerator`.
    """

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
        leak: float = 0.0,
    ) -> None:
        super().__init__(
            width,
            length=length,
            hidden=hidden,
            latent=latent,
            global_prompt=global_prompt,
            sequential=sequential,
            leak=leak,
        )
        self.encoder = mlp(embed_dim, encoder_width, 2 * self.latent)

    def contexts_of_images(self, x: Tensor) -> Tensor:
        """Return the prompts (N, L, W) of unit image features (N, D), decoded from the mean of each posterior."""
        with torch.inference_mode():
            mu, _ = self.posterior(x)
            return self.context(mu)
