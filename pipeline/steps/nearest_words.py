"""Read learned vectors back as words: the tokens of the vocabulary that lie nearest to them.

Nearness is Euclidean distance in token-embedding space. CoOp's Table 4 (Zhou et al. 2022, section 3.3) and SHIP's
Figure 2 (Wang et al. 2023, section 4.3) show prompts in this way, with the distances. Tokens are pieces of words, and
the nearest token need not mean what the vector does: both papers warn against reading much into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from features.formats.csv_cells import write_rows
from features.text.text_tower import TextTower

NEAREST = 3  # words per vector
BLOCK = 256  # vectors in one block; distances to the whole vocabulary are held for one block at a time


class Word(NamedTuple):
    """A token near to a learned vector."""

    context: int  # index of the context, among a classifier's contexts or those of the images
    vector: int  # index of the vector in its context
    rank: int  # 1 is the nearest
    token: int  # token id
    word: str  # the token as text
    distance: float


def nearest_words(contexts: Tensor, tower: TextTower, count: int = NEAREST) -> list[Word]:
    """Return the `count` nearest tokens of each vector of contexts (G, M, W), nearest first."""
    table = tower.table
    vectors = contexts.detach().to(table).flatten(0, 1)  # (G M, W)
    length = contexts.shape[1]

    words = []
    for start, block in zip(range(0, len(vectors), BLOCK), torch.split(vectors, BLOCK), strict=True):
        # torch's quick way by matrix products gives a wrong distance to a vector that equals a token's embedding.
        distances = torch.cdist(block, table, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distances.topk(count, largest=False)

        rows = zip(nearest.indices.tolist(), nearest.values.tolist(), strict=True)
        for index, (tokens, distances_of_tokens) in enumerate(rows, start):
            context, vector = divmod(index, length)
            for rank, (token, distance) in enumerate(zip(tokens, distances_of_tokens, strict=True), 1):
                words.append(Word(context, vector, rank, token, tower.tokenizer.token_text(token), distance))
    return words


def contexts_of(state: dict[str, Tensor]) -> Tensor | None:
    """Return the contexts (G, M, W) among a fitted classifier's tensors, or None if it learned no prompts."""
    context = state.get("context")
    if context is None or context.ndim == 3:
        return context
    return context[None]  # a single context (M, W)


def write_words(path: Path, words: Iterable[tuple[int, Sequence[str], Word]]) -> None:
    """Write `words.csv`: for each word its seed, the owner of its context, and the fields of `Word`.

    Args:
        path: the file to write.
        words: a seed, an owner and a word each. An owner is a class and an image's row in the store, or empty strings.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = ((seed, *owner, *word[:-1], f"{word.distance:.4g}") for seed, owner, word in words)
        write_rows(file, [("seed", "class", "image", *Word._fields), *rows])
