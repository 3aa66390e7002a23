"""Prompts read back as words: the vocabulary's tokens that lie nearest to learned vectors.

By Euclidean distance in token-embedding space, with the distances, as CoOp's Table 4 (Zhou et al. 2022, section 3.3)
and SHIP's Figure 2 (Wang et al. 2023, section 4.3) show them. Tokens are pieces of words, and what is nearest need not
mean what the vector does: both papers warn of reading much into it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from features.text.prompts import token_text
from features.text.text_tower import TextTower

NEAREST = 3  # words of a vector
BLOCK = 256  # vectors whose distances to the whole vocabulary are held at a time


class Word(NamedTuple):
    """A token near to a learned vector."""

    context: int  # which of a classifier's contexts, or of the images
    vector: int  # of the context
    rank: int  # 1 is the nearest
    token: int
    word: str
    distance: float


def nearest_words(contexts: Tensor, tower: TextTower, count: int = NEAREST) -> list[Word]:
    """The `count` nearest tokens of each vector of contexts (G, M, W), nearest first."""
    table = tower.token_embedding.weight
    vectors, length = contexts.detach().to(table).flatten(0, 1), contexts.shape[1]
    exact = "donot_use_mm_for_euclid_dist"  # the quick way loses the distance of a vector that is a token's own
    found = [
        torch.cdist(part, table, compute_mode=exact).topk(count, largest=False) for part in torch.split(vectors, BLOCK)
    ]
    distances = torch.cat([part.values for part in found]).tolist()
    tokens = torch.cat([part.indices for part in found]).tolist()
    return [
        Word(place // length, place % length, rank, token, token_text(token), distance)
        for place, row in enumerate(zip(tokens, distances, strict=True))
        for rank, (token, distance) in enumerate(zip(*row, strict=True), 1)
    ]


def contexts_of(state: dict[str, Tensor]) -> Tensor | None:
    """The contexts (G, M, W) that a fitted classifier's tensors hold; None for one that learned no words."""
    context = state.get("context")
    return context if context is None or context.ndim == 3 else context[None]


def write_words(path: Path, words: Iterable[tuple[int, Sequence[str], Word]]) -> None:
    """Write `words.csv`: seed, whose context it is (a class and an image's row, or empty), and the word."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("seed", "class", "image", *Word._fields))
        for seed, owner, word in words:
            writer.writerow((seed, *owner, *word[:-1], f"{word.distance:.4g}"))
