"""CLIP's text tower, frozen, with gradients to its prompts, doing only the work that reaches the result.

Causal attention and pooling at the EOT token allow three exact savings over `open_clip`'s 77-token `encode_text`:
tokens after each EOT are left out; the states of a shared beginning `[SOS] context` are computed once for all classes
and enter the others' attention as keys and values; the last block computes only the EOT's row.
Token ids decide the shapes of a pass, so they stay on the host, which then waits for no device.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from features.errors import InputError
from features.formats.tensors import read_tensors, save_tensors
from features.formats.untrusted import parsing
from features.runtime.devices import Precision, autocast

# What a pass through the tower may keep for its gradient, which bounds memory at a thousand classes.
PASS_BYTES = 4_000_000_000
KEPT_FLOATS = 24  # about as many times a token's width are kept in a block: inputs, heads, the wide hidden layer twice


@dataclass(frozen=True)
class TowerConfig:
    """The tower's shape, and whose it is.

    Attributes:
        width: W, of a token embedding. embed_dim: D, of a text feature. context_length: most tokens of a prompt.
        quick_gelu: OpenAI's x * sigmoid(1.702 x) in place of GELU.
        logit_scale: what CLIP multiplies a cosine by (exp of the learned value).
        encoder: its name in `params.yaml`. weights_sha256: of the whole encoder (`features.encoding.encoder`).
    """

    width: int
    heads: int
    layers: int
    embed_dim: int
    context_length: int
    vocabulary: int
    mlp_width: int
    quick_gelu: bool
    logit_scale: float
    encoder: str
    weights_sha256: str


class Block(nn.Module):
    """One pre-norm residual attention block, but for the attention, which knows what the rows of x are."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        width = config.width
        self.heads, self.quick_gelu = config.heads, config.quick_gelu
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc, self.proj = nn.Linear(width, config.mlp_width), nn.Linear(config.mlp_width, width)

    def split_heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (..., heads, T, W / heads) from their rows (..., T, 3 W)."""
        q, k, v = qkv.view(*qkv.shape[:-1], 3, self.heads, -1).movedim((-3, -2), (0, -3))
        return q, k, v

    def forward(self, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of the block for rows x (..., W) and what they took in by attention (..., W)."""
        x = x + self.out(attended)
        hidden = self.fc(self.ln_2(x))
        hidden = hidden * torch.sigmoid(1.702 * hidden) if self.quick_gelu else F.gelu(hidden)
        out: Tensor = x + self.proj(hidden)
        return out


class TextTower(nn.Module):
    """Prompts, as token ids or as learned vectors before them, to text features."""

    precision: Precision = "float32"  # of the passes; weights, contexts, their gradients and features stay float32

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.ln_final = nn.LayerNorm(config.width)
        self.text_projection = nn.Parameter(torch.empty(config.width, config.embed_dim))

    def embed(self, tokens: Tensor) -> Tensor:
        """Token ids (...) on the host to their embeddings (..., W) on the tower's device."""
        return F.embedding(tokens.to(self.text_projection.device, non_blocking=True), self.token_embedding.weight)

    def encode(self, tokens: Tensor) -> Tensor:
        """Plain texts: tokens (C, T) from `features.text.prompts.tokenize` to features (C, D), not normalised."""
        features: Tensor = self(self.token_embedding.weight.new_empty(1, 0, self.config.width), tokens)
        return features[0]

    def forward(self, context: Tensor, tokens: Tensor) -> Tensor:
        """Learned context before class names: `[SOS] context, the tokens after SOS`.

        Args:
            context: (G, L, W) vectors in token-embedding space; gradients flow to them.
            tokens: on the host, (C, T) the same C texts for each of the G contexts, or (G, C, T).

        Returns:
            (G, C, D) features, not normalised.

        Raises:
            InputError: context and text together are longer than the tower's context length.
        """
        eot = tokens.argmax(-1) - 1  # the EOT has the largest id; its place among the tokens after SOS
        ends = int(eot.max()) + 1
        suffix = self.embed(tokens[..., 1 : ends + 1])
        if suffix.ndim == 3:
            suffix = suffix.expand(len(context), -1, -1, -1)
        sos = self.embed(tokens.flatten()[:1]).expand(len(context), 1, -1)
        return self.encode_embedded(torch.cat([sos, context], dim=1), suffix, eot.expand(suffix.shape[:2]))

    def encode_embedded(self, prefix: Tensor, suffix: Tensor, eot: Tensor) -> Tensor:
        """Embedded prompts: prefix (G, P, W) shared by the C suffixes (G, C, T, W) that end at eot (G, C), on the host.

        Memory is bounded: what is more than `PASS_BYTES` goes in several passes, each of which, where there are
        gradients, keeps only its inputs and runs again on the way back.

        Returns:
            (G, C, D) features at the EOT, not normalised.

        Raises:
            InputError: prefix and suffix together are longer than the tower's context length.
        """
        (_, p, _), (c, t) = prefix.shape, suffix.shape[1:3]
        if p + t > self.config.context_length:
            raise InputError(f"a prompt of {p + t} tokens is longer than the text tower's {self.config.context_length}")
        prompts = max(1, PASS_BYTES // (4 * KEPT_FLOATS * self.config.layers * self.config.width * (p + t)))
        contexts = max(1, prompts // c)
        if contexts >= len(prefix) and prompts >= c:
            return self._one_pass(prefix, suffix, eot)
        found = []
        for before, after, end in zip(*(torch.split(whole, contexts) for whole in (prefix, suffix, eot)), strict=True):
            parts = zip(torch.split(after, prompts, dim=1), torch.split(end, prompts, dim=1), strict=True)
            found.append(torch.cat([self._again(before, *part) for part in parts], dim=1))
        return torch.cat(found)

    def _again(self, *inputs: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return self._one_pass(*inputs)
        found: Tensor = checkpoint(self._one_pass, *inputs, use_reentrant=False, preserve_rng_state=False)
        return found

    def _one_pass(self, prefix: Tensor, suffix: Tensor, eot: Tensor) -> Tensor:
        with autocast(prefix.device, self.precision):
            return self._features(prefix, suffix, eot).to(prefix.dtype)

    def _features(self, prefix: Tensor, suffix: Tensor, eot: Tensor) -> Tensor:
        (g, p, w), (c, t) = prefix.shape, suffix.shape[1:3]
        there = torch.arange(t) <= eot[..., None]  # (G, C, T): the tokens up to the EOT
        rows, ends = there.flatten().nonzero().squeeze(1), (eot.flatten() + 1).cumsum(0) - 1
        there, rows, ends, eot = (found.to(prefix.device, non_blocking=True) for found in (there, rows, ends, eot))
        prefix = prefix + self.positional_embedding[:p]
        suffix = suffix + self.positional_embedding[p : p + t]
        # All linear layers see one matrix of rows without padding: the prefixes' G x P, then the suffixes' tokens.
        x = torch.cat([prefix.flatten(0, 1), suffix.flatten(0, 2).index_select(0, rows)])
        own = g * p
        *blocks, last = cast("list[Block]", list(self.blocks))
        causal = _mask(torch.ones(t, t, dtype=torch.bool, device=x.device).tril(), x)
        for block in blocks:
            qkv = block.qkv(block.ln_1(x))
            q, k, v = block.split_heads(qkv[:own].view(g, p, -1))
            among = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(own, w)
            theirs = block.split_heads(_padded(qkv[own:], rows, (g, c, t)))
            beyond = _attended(theirs, (k, v), causal).index_select(0, rows)
            x = block(x, torch.cat([among, beyond]))
        # The last block computes only the EOT's row.
        qkv = last.qkv(last.ln_1(x))
        _, k, v = last.split_heads(qkv[:own].view(g, p, -1))
        q, theirs_k, theirs_v = last.split_heads(_padded(qkv[own:], rows, (g, c, t)))
        q = q.gather(-2, eot[:, :, None, None, None].expand(-1, -1, q.shape[2], 1, q.shape[-1]))
        seen = _mask(there[:, :, None, None], x)
        x = last(x[own:].index_select(0, ends), _attended((q, theirs_k, theirs_v), (k, v), seen))
        features: Tensor = self.ln_final(x) @ self.text_projection
        return features.view(g, c, -1)

    def freeze(self) -> TextTower:
        """The same tower in evaluation mode, none of whose weights takes a gradient."""
        return self.eval().requires_grad_(False)


def _mask(allowed: Tensor, like: Tensor) -> Tensor:
    """What is added to the logits of attention: 0 where it is allowed, minus infinity elsewhere."""
    return like.new_zeros(allowed.shape).masked_fill(~allowed, -torch.inf)


def _padded(rows: Tensor, places: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Rows (N, W) at their places among G x C x T: (G, C, T, W), 0 elsewhere."""
    return rows.new_zeros(math.prod(shape), rows.shape[-1]).index_copy(0, places, rows).view(*shape, -1)


def _attended(own: tuple[Tensor, Tensor, Tensor], prefix: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
    """Attention of suffixes to their prefix, all of whose positions they see, and to themselves.

    Args:
        own: queries (G, C, heads, t, d), keys and values (G, C, heads, T, d) of the suffixes.
        prefix: keys and values (G, heads, P, d), not repeated for the C suffixes.
        mask: added to a suffix's logits for itself, broadcast over (G, C, heads, t, T).

    Returns:
        (G * C * t, heads * d).
    """
    (q, k, v), (prefix_k, prefix_v) = own, prefix
    g, c, h, t, d = q.shape
    q = q * d**-0.5
    together = q.transpose(1, 2).reshape(g, h, c * t, d)  # the prefix is one: C suffixes ask it at once
    shared = (together @ prefix_k.mT).view(g, h, c, t, -1).transpose(1, 2)
    weights = torch.cat([shared, q @ k.mT + mask], dim=-1).softmax(-1)
    to_prefix, to_own = torch.split(weights, [prefix_k.shape[-2], k.shape[-2]], dim=-1)
    from_prefix = to_prefix.transpose(1, 2).reshape(g, h, c * t, -1) @ prefix_v
    found = from_prefix.view(g, h, c, t, d).transpose(1, 2) + to_own @ v
    rows: Tensor = found.transpose(2, 3).reshape(g * c * t, h * d)
    return rows


def save_tower(tower: TextTower, path: Path) -> None:
    """Write the tower to one safetensors file that needs no open_clip to read."""
    save_tensors(tower.state_dict(), path, config=json.dumps(asdict(tower.config), sort_keys=True))


def load_tower(path: Path) -> TextTower:
    """Read a tower that `save_tower` wrote; frozen, on the CPU.

    Raises:
        InputError: there is no such file, or it is not one of ours.
    """
    state, facts = read_tensors(path)
    with parsing(path, "make it anew: `dvc repro text_tower`"):
        config = TypeAdapter(TowerConfig).validate_json(facts["config"], strict=True)
        blocks = {name.split(".")[1] for name in state if name.startswith("blocks.")}
        if len(blocks) != config.layers or config.heads < 1:
            raise InputError(f"{path} holds {len(blocks)} blocks, not {config.layers}, or says {config.heads} heads")
        with torch.device("meta"):
            tower = TextTower(config)
        tower.load_state_dict(state, assign=True)
    return tower.freeze()
