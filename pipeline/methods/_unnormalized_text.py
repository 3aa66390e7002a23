"""Text features at the length of the text tower's output, for methods that train them before normalising."""

from __future__ import annotations

import torch
from torch import Tensor

from features.text.text_tower import TextTower
from pipeline.training.data import ClassSet

BATCH = 256  # class names per pass through the tower


def unnormalized_text_features(classes: ClassSet, tower: TextTower) -> Tensor:
    """Return each class's zero-shot text feature (C, D) at the length of the tower's feature of the bare class name.

    A task stores only directions. The length decides how far a step of the optimizer turns a vector.
    """
    with torch.no_grad():
        bare_names = torch.cat([tower.encode(tokens) for tokens in torch.split(classes.tokens, BATCH)])

    rescaled: Tensor = classes.text_features * bare_names.norm(dim=-1, keepdim=True)
    return rescaled
