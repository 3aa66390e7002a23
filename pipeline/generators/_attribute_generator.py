"""The decoder that SHIP calls "from scratch" ("S" in its Table 4): an MLP that reads noise and a class's attributes.

The attributes a of a class are its text feature, from "a photo of a {class}" or the data set's own template.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from features.text.text_tower import TextTower
from pipeline.generators._networks import draw_latents, mlp
from pipeline.generators.base import FittedGenerator
from pipeline.training.data import ClassSet

LEAK = 0.2  # slope of the leaky ReLUs below 0 (the code of f-CLSWGAN and of its descendants)


class AttributeGenerator(FittedGenerator):
    """G(z, a): [z, a] -> hidden layers -> D, scaled to unit length.

    The originals end in a ReLU or a sigmoid because their ResNet features are positive. CLIP's features lie on the
    unit sphere.

    Args:
        embed_dim: D, of features and attributes.
        hidden: units of each hidden layer.
        latent: Z, the size of z; D if None, "the same dimension as the attributes" (f-CLSWGAN).
    """

    def __init__(self, embed_dim: int, hidden: Sequence[int], latent: int | None = None) -> None:
        super().__init__()
        self.latent = latent or embed_dim
        self.decoder = mlp(self.latent + embed_dim, *hidden, embed_dim, leak=LEAK)

    def decode(self, z: Tensor, attributes: Tensor) -> Tensor:
        """Map latents (N, Z) and attributes (N, D) to unit features (N, D)."""
        return F.normalize(self.decoder(torch.cat([z, attributes], dim=-1)), dim=-1)

    def generate(self, attributes: Tensor, rng: torch.Generator) -> Tensor:
        """Decode one latent z ~ N(0, I) for each row of attributes (N, D): unit features (N, D)."""
        z = draw_latents(len(attributes), self.latent, rng, attributes.device)
        return self.decode(z, attributes)

    def sample(self, class_ids: Tensor, classes: ClassSet, tower: TextTower, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        """Decode z ~ N(0, I), one latent per class id (N,), to unit features (N, D)."""
        return self.generate(classes.text_features[class_ids], rng)
