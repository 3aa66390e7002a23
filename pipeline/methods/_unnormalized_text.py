"""Text features at the length at which the tower gives them, for codes that train them before they are normalised."""

from __future__ import annotations

import torch
from torch import Tensor

from features.text.text_tower import TextTower
from pipeline.training.data import ClassSet

BATCH = 256  # short texts in one pass


def at_raw_length(classes: ClassSet, tower: TextTower) -> Tensor:
    """(C, D): each class's zero-shot text feature, as long as the tower's feature of the bare name.

    A task keeps the directions alone; the length says how far an optimizer's step turns one.
    """
    with torch.no_grad():
        bare = torch.cat([tower.encode(tokens) for tokens in torch.split(classes.tokens, BATCH)])
    long: Tensor = classes.text_features * bare.norm(dim=-1, keepdim=True)
    return long
