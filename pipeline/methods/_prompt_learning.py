"""What the methods that learn a context before, around or after a class name share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from features.errors import InputError
from features.text.prompts import tokenize_words
from features.text.text_tower import TextTower
from pipeline.training.loop import Batches, Rate, warm_cosine

Position = Literal["end", "middle", "front"]
Distance = Literal["cosine", "squared"]


def initial_context(
    tower: TextTower, init: str | None, length: int, rng: torch.Generator, *, method: str, contexts: int = 1
) -> Tensor:
    """(contexts, length, W): the embeddings of the words `init` in each, or noise N(0, 0.02^2) (CoOp section 3.1).

    Raises:
        InputError: `init` is not `length` tokens long; names the setting of `method`.
    """
    table = tower.token_embedding.weight
    if init is None:
        return (0.02 * torch.randn(contexts, length, table.shape[1], generator=rng)).to(table.device)
    ids = tokenize_words(init)
    if len(ids) != length:
        raise InputError(
            f"methods.{method}: init {init!r} is {len(ids)} tokens long, but context is {length}; "
            f"set context: {len(ids)}, other words, or init: null"
        )
    return table[ids.to(table.device)].detach().clone().repeat(contexts, 1, 1)


def first_linear(outputs: int, inputs: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weight (outputs, inputs) and bias (outputs,) as torch's Linear starts: U(-1/sqrt(inputs), 1/sqrt(inputs))."""
    drawn = (2 * torch.rand(outputs, inputs + 1, generator=rng) - 1) * inputs**-0.5
    return drawn[:, :-1].contiguous(), drawn[:, -1].contiguous()


def knowledge_distance(learned: Tensor, zero_shot: Tensor, distance: Distance) -> Tensor:
    """Mean over classes of 1 - cos (`cosine`) or |w - w_clip|^2 (`squared`) between unit rows (C, D): ()."""
    cosine = (learned * zero_shot).sum(-1)
    found: Tensor = (1 - cosine).mean() * (2 if distance == "squared" else 1)
    return found


def dassl_sgd(
    parameters: Sequence[nn.Parameter], batches: Batches, learning_rate: float
) -> tuple[torch.optim.Optimizer, Rate]:
    """The optimizer of CoOp's code and its descendants: momentum 0.9, weight decay 5e-4, one epoch at 1e-5, cosine."""
    optimizer = torch.optim.SGD(parameters, learning_rate, momentum=0.9, weight_decay=5e-4)
    return optimizer, warm_cosine(batches, learning_rate)


def class_weights(tower: TextTower, context: Tensor, tokens: Tensor, position: Position = "end") -> Tensor:
    """Unit text features of the learned prompts.

    Args:
        tower: frozen.
        context: (G, M, W) vectors; gradients flow to them.
        tokens: on the host, (C, T) `[SOS] name . [EOS]` for each of the G contexts, or (G, C, T).
        position: of the class name: after the context, after its first half, or before it. The full stop stays last.

    Returns:
        (G, C, D).
    """
    if position == "end":
        return F.normalize(tower(context, tokens), dim=-1)
    ahead = context.shape[1] // 2 if position == "middle" else 0
    prefix = torch.cat([tower.embed(tokens.flatten()[:1]).expand(len(context), 1, -1), context[:, :ahead]], dim=1)
    suffix, eot = _around(tower, context[:, ahead:], tokens)
    return F.normalize(tower.encode_embedded(prefix, suffix, eot), dim=-1)


def _around(tower: TextTower, behind: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Class names with context (G, M, W) between the name and its full stop: embedded (G, C, T, W), their EOT (G, C).

    Tokens and EOT are on the host. The stop is the token before the EOT (`features.text.prompts.class_tokens`).
    """
    g, m, _ = behind.shape
    tokens = tokens.expand(g, *tokens.shape[-2:])  # (G, C, T)
    eot = tokens.argmax(-1) - 1  # among the tokens after SOS
    t = int(eot.max()) + 1
    name = (eot - 1)[..., None]  # tokens of the name
    place = torch.arange(t + m)
    source = torch.where(place < name, place, torch.where(place < name + m, t + place - name, place - m))
    source = source.to(behind.device, non_blocking=True)
    embedded = tower.embed(tokens[..., 1 : t + 1])
    pool = torch.cat([embedded, behind[:, None].expand(-1, embedded.shape[1], -1, -1)], dim=2)
    return pool.gather(2, source[..., None].expand(-1, -1, -1, pool.shape[-1])), eot + m
