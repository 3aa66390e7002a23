"""The decoder that SHIP calls "from scratch" ("S" in its Table 4): an MLP that reads noise and a class's attributes.

The attributes a of a class are its text feature, from "a photo of a {class}" or the data set's own template.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from features.text.text_tower import TextTower
from pipeline.generators._networks import mlp
from pipeline.generators.base import FittedGenerator
from pipeline.training.data import ClassSet

LEAK = 0.2  # of the leaky ReLUs (f-CLSWGAN; the codes of all that descend from it)


class AttributeGenerator(FittedGenerator):
    """G(z, a): [z, a] -> hidden layers -> D, unit length.

    The originals end in a ReLU or sigmoid, for their ResNet features are positive; CLIP's lie on the unit sphere.

    Args:
        embed_dim: D, of features and attributes.
        hidden: units of each hidden layer.
        latent: Z, numbers in z; D if None, "the same dimension as the attributes" (f-CLSWGAN).
    """

    def __init__(self, embed_dim: int, hidden: Sequence[int], latent: int | None = None) -> None:
        super().__init__()
        self.latent = latent or embed_dim
        self.decoder = mlp(self.latent + embed_dim, *hidden, embed_dim, leak=LEAK)

    def decode(self, z: Tensor, attributes: Tensor) -> Tensor:
        """Latents (N, Z) and attributes (N, D) to unit features (N, D)."""
        return F.normalize(self.decoder(torch.cat([z, attributes], dim=-1)), dim=-1)

    def sample(self, class_ids: Tensor, classes: ClassSet, tower: TextTower, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        """Decode z ~ N(0, I), one latent a feature."""
        attributes = classes.text_features[class_ids]
        return self.decode(noise(attributes, self.latent, rng), attributes)


def noise(like: Tensor, latent: int, rng: torch.Generator) -> Tensor:
    """Latents from N(0, I): one row of `latent` numbers for each row of `like`, on its device."""
    return torch.randn(len(like), latent, generator=rng).to(like.device, non_blocking=True)
