"""Attention of prompts that share their beginning, and where a learned context stands in them."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def insert_context(context: Tensor, suffix: Tensor, eot: Tensor, full_stop: int) -> tuple[Tensor, Tensor]:
    """Put a context (G, M, W) between each embedded name and its full stop.

    Args:
        context: the vectors.
        suffix: (G, C, T, W) embedded `name . [EOT]`.
        eot: (G, C) on the host, positions of the EOTs.
        full_stop: tokens of the full stop.

    Returns:
        Embeddings (G, C, T + M, W), and the position of each EOT (G, C).
    """
    m, c, t = context.shape[1], suffix.shape[1], suffix.shape[2]
    name_length = (eot - full_stop)[..., None]

    # Gather each position from [name . EOT, context]: the name, then the context, then the full stop and the EOT.
    position = torch.arange(t + m)
    in_context = t + position - name_length
    source = torch.where(position < name_length + m, in_context, position - m)
    source = torch.where(position < name_length, position, source)
    source = source.to(context.device, non_blocking=True)

    pool = torch.cat([suffix, context[:, None].expand(-1, c, -1, -1)], dim=2)
    return pool.gather(2, source[..., None].expand(-1, -1, -1, pool.shape[-1])), eot + m


def additive_mask(allowed: Tensor, like: Tensor) -> Tensor:
    """Return the addend of attention logits: 0 where attention is allowed, minus infinity elsewhere."""
    return like.new_zeros(allowed.shape).masked_fill(~allowed, -torch.inf)


def pad(values: Tensor, rows: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Put values (N, W) at their `rows` (N,) of a zero tensor (G, C, T, W)."""
    return values.new_zeros(math.prod(shape), values.shape[-1]).index_copy(0, rows, values).view(*shape, -1)


def attend(own: tuple[Tensor, Tensor, Tensor], prefix: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
    """Compute the attention of suffixes to their whole prefix and to themselves.

    Args:
        own: queries (G, C, heads, t, d), keys and values (G, C, heads, T, d) of the suffixes.
        prefix: keys and values (G, heads, P, d), not repeated for the C suffixes.
        mask: added to a suffix's logits for itself, broadcast over (G, C, heads, t, T).

    Returns:
        (G * C * t, heads * d).
    """
    q, k, v = own
    prefix_k, prefix_v = prefix
    g, c, h, t, d = q.shape
    q = q * d**-0.5

    # The C suffixes share one prefix, so their queries are stacked: one product of (C t, d) with (d, P) for each head.
    stacked = q.transpose(1, 2).reshape(g, h, c * t, d)
    to_prefix = (stacked @ prefix_k.mT).view(g, h, c, t, prefix_k.shape[-2]).transpose(1, 2)

    # One softmax over prefix and suffix together, as if both were one sequence.
    weights = torch.cat([to_prefix, q @ k.mT + mask], dim=-1).softmax(-1)
    prefix_weights, own_weights = torch.split(weights, [prefix_k.shape[-2], k.shape[-2]], dim=-1)

    from_prefix = prefix_weights.transpose(1, 2).reshape(g, h, c * t, prefix_k.shape[-2]) @ prefix_v
    attended = from_prefix.view(g, h, c, t, d).transpose(1, 2) + own_weights @ v
    rows: Tensor = attended.transpose(2, 3).reshape(g * c * t, h * d)
    return rows
