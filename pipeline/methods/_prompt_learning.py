"""Shared parts of the methods that learn a context before, around or after a class name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from features.errors import InputError
from features.text.text_tower import Position, TextTower
from pipeline.training.loop import Batches, Rate, warm_cosine

Distance = Literal["cosine", "squared"]


def initial_context(
    tower: TextTower, init: str | None, length: int, rng: torch.Generator, *, method: str, contexts: int = 1
) -> Tensor:
    """Return the start of the context vectors (contexts, length, W).

    Args:
        tower: the text tower, whose embeddings of words are W wide.
        init: words that each context starts from; None: noise N(0, 0.02^2) (CoOp section 3.1).
        length: context vectors M.
        rng: source of the noise.
        method: name of the method, for the error.
        contexts: number of contexts.

    Raises:
        InputError: `init` is not `length` tokens long.
    """
    if init is None:
        return (0.02 * torch.randn(contexts, length, tower.config.width, generator=rng)).to(tower.device)

    ids = torch.tensor(tower.tokenizer.words(init))
    if len(ids) != length:
        raise InputError(
            f"methods.{method}: init {init!r} is {len(ids)} tokens long, but context is {length}; "
            f"set context: {len(ids)}, other words, or init: null"
        )
    return tower.embed(ids).detach().clone().repeat(contexts, 1, 1)


def initial_linear(outputs: int, inputs: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return weight (outputs, inputs) and bias (outputs,) as torch initialises a Linear.

    Both are drawn from U(-1/sqrt(inputs), 1/sqrt(inputs)).
    """
    drawn = (2 * torch.rand(outputs, inputs + 1, generator=rng) - 1) * inputs**-0.5
    return drawn[:, :-1].contiguous(), drawn[:, -1].contiguous()


def knowledge_distance(learned: Tensor, zero_shot: Tensor, distance: Distance) -> Tensor:
    """Return the mean over classes () of 1 - cos (`cosine`) or |w - w_clip|^2 (`squared`) of unit rows (C, D)."""
    cosine = (learned * zero_shot).sum(-1)
    mean: Tensor = (1 - cosine).mean() * (2 if distance == "squared" else 1)  # |w - v|^2 = 2 (1 - cos) on the sphere
    return mean


def dassl_sgd(
    parameters: Sequence[nn.Parameter], batches: Batches, learning_rate: float
) -> tuple[torch.optim.Optimizer, Rate]:
    """Return the optimizer of CoOp's code and its descendants, with its schedule.

    SGD with momentum 0.9 and weight decay 5e-4; one epoch at 1e-5, then a cosine (`warm_cosine`).
    """
    optimizer = torch.optim.SGD(parameters, learning_rate, momentum=0.9, weight_decay=5e-4)
    return optimizer, warm_cosine(batches, learning_rate)


def class_weights(tower: TextTower, context: Tensor, tokens: Tensor, position: Position = "end") -> Tensor:
    """Return unit text features (G, C, D) of the learned prompts.

    Args:
        tower: the frozen text tower.
        context: (G, M, W) vectors, which receive gradients.
        tokens: on the host, (C, T) `[SOS] name . [EOT]` for each of the G contexts, or (G, C, T).
        position: of the class name: after the context, after its first half, or before it. The full stop stays last.
    """
    return F.normalize(tower(context, tokens, position), dim=-1)
