"""CLIP's text tower, frozen, with gradients to its prompts.

Causal attention and pooling at the EOT token allow three exact savings over `open_clip`'s 77-token `encode_text`:

- Tokens after each EOT are left out, because no token before them attends to them.
- The states of a shared beginning `[SOS] context` are computed once for all classes, because they depend on no class
  name. They enter the attention of the class names as keys and values.
- The last block computes only the EOT's row, because only this row is pooled.

Token ids decide the shapes of a pass. They stay on the host, so that computing these shapes waits for no device.
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
from features.formats.untrusted import wrap_parser_errors
from features.runtime.devices import Precision, autocast

# Most bytes that one pass through the tower keeps for its gradient; bounds the memory at a thousand classes.
PASS_BYTES = 4_000_000_000
# Floats that a block keeps for each token, in units of the width W: inputs, heads, and the 4 W wide hidden layer twice.
KEPT_FLOATS = 24


@dataclass(frozen=True)
class TowerConfig:
    """Shape of a text tower, and the encoder it belongs to.

    Attributes:
        width: W, the width of a token embedding.
        heads: attention heads of a block.
        layers: number of blocks.
        embed_dim: D, the dimensions of a text feature.
        context_length: the most tokens of a prompt, SOS and EOT included.
        vocabulary: number of tokens.
        mlp_width: width of the hidden layer of a block.
        quick_gelu: whether the activation is OpenAI's x * sigmoid(1.702 x) instead of GELU.
        logit_scale: the factor of CLIP's cosines (exp of the learned value).
        encoder: name of the encoder in `params.yaml`.
        weights_sha256: identity of the whole encoder's weights (`features.encoding.encoder`).
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
    """One pre-norm residual attention block without its attention.

    The attention is in `TextTower`, because only the tower knows which rows of x belong to which prompt.
    """

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        width = config.width
        self.heads, self.quick_gelu = config.heads, config.quick_gelu
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc, self.proj = nn.Linear(width, config.mlp_width), nn.Linear(config.mlp_width, width)

    def split_heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split rows (..., T, 3 W) into queries, keys and values, each (..., heads, T, W / heads)."""
        q, k, v = qkv.view(*qkv.shape[:-1], 3, self.heads, -1).movedim((-3, -2), (0, -3))
        return q, k, v

    def forward(self, x: Tensor, attended: Tensor) -> Tensor:
        """Compute the rest of the block for rows x (..., W) and the outputs of their attention (..., W)."""
        x = x + self.out(attended)

        hidden = self.fc(self.ln_2(x))
        hidden = hidden * torch.sigmoid(1.702 * hidden) if self.quick_gelu else F.gelu(hidden)
        out: Tensor = x + self.proj(hidden)
        return out


class TextTower(nn.Module):
    """CLIP's text tower: encodes prompts, as token ids or with learned vectors before them, as text features.

    Attributes:
        precision: of the passes. Weights, contexts, their gradients and features stay float32.
    """

    precision: Precision = "float32"

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.ln_final = nn.LayerNorm(config.width)
        self.text_projection = nn.Parameter(torch.empty(config.width, config.embed_dim))

    def embed(self, tokens: Tensor) -> Tensor:
        """Embed token ids (...) on the host as (..., W) on the tower's device."""
        return F.embedding(tokens.to(self.text_projection.device, non_blocking=True), self.token_embedding.weight)

    def encode(self, tokens: Tensor) -> Tensor:
        """Encode tokens (C, T) from `features.text.prompts.tokenize` as features (C, D), not normalised."""
        no_context = self.token_embedding.weight.new_empty(1, 0, self.config.width)
        features: Tensor = self(no_context, tokens)
        return features[0]

    def forward(self, context: Tensor, tokens: Tensor) -> Tensor:
        """Encode prompts that have learned vectors before the class name: `[SOS] context, the tokens after SOS`.

        Args:
            context: (G, L, W) vectors in token-embedding space; gradients flow to them.
            tokens: token ids on the host: (C, T), the same C texts for each of the G contexts, or (G, C, T).

        Returns:
            (G, C, D) features, not normalised.

        Raises:
            InputError: context and text together are longer than the tower's context length.
        """
        # The EOT has the largest id of the vocabulary. Its position is counted among the tokens after SOS.
        eot = tokens.argmax(-1) - 1

        # Attention is causal: tokens after the longest text's EOT reach no pooled row, so they are cut off. What is
        # left after the EOT of a shorter text is dropped in `_features`.
        longest = int(eot.max()) + 1
        suffix = self.embed(tokens[..., 1 : longest + 1])
        if suffix.ndim == 3:
            suffix = suffix.expand(len(context), -1, -1, -1)

        sos = self.embed(tokens.flatten()[:1]).expand(len(context), 1, -1)
        return self.encode_embedded(torch.cat([sos, context], dim=1), suffix, eot.expand(suffix.shape[:2]))

    def encode_embedded(self, prefix: Tensor, suffix: Tensor, eot: Tensor) -> Tensor:
        """Encode embedded prompts: a prefix, shared by C suffixes that end at the EOT.

        Memory is bounded. More prompts than fit into `PASS_BYTES` go through the tower in several passes. With
        gradients, each of these passes keeps only its inputs and is computed again in the backward pass.

        Args:
            prefix: (G, P, W).
            suffix: (G, C, T, W).
            eot: (G, C) on the host, positions of the EOT in the suffixes.

        Returns:
            (G, C, D) features at the EOT, not normalised.

        Raises:
            InputError: prefix and suffix together are longer than the tower's context length.
        """
        p = prefix.shape[1]
        c, t = suffix.shape[1:3]
        config = self.config
        if p + t > config.context_length:
            raise InputError(f"a prompt has {p + t} tokens; the text tower's context length is {config.context_length}")

        # Prompts, and contexts with all their C suffixes, that one pass has room for.
        bytes_of_prompt = 4 * KEPT_FLOATS * config.layers * config.width * (p + t)
        prompts = max(1, PASS_BYTES // bytes_of_prompt)
        contexts = max(1, prompts // c)
        if contexts >= len(prefix) and prompts >= c:
            return self._one_pass(prefix, suffix, eot)

        groups = zip(
            torch.split(prefix, contexts), torch.split(suffix, contexts), torch.split(eot, contexts), strict=True
        )
        features = []
        for group_prefix, group_suffix, group_eot in groups:
            parts = zip(torch.split(group_suffix, prompts, dim=1), torch.split(group_eot, prompts, dim=1), strict=True)
            features.append(torch.cat([self._checkpointed_pass(group_prefix, *part) for part in parts], dim=1))
        return torch.cat(features)

    def _checkpointed_pass(self, *inputs: Tensor) -> Tensor:
        """Compute one pass that keeps its inputs alone for the backward pass."""
        if not torch.is_grad_enabled():
            return self._one_pass(*inputs)
        # The tower draws no random numbers, so their state need not be restored.
        features: Tensor = checkpoint(self._one_pass, *inputs, use_reentrant=False, preserve_rng_state=False)
        return features

    def _one_pass(self, prefix: Tensor, suffix: Tensor, eot: Tensor) -> Tensor:
        """Compute the features of one pass in `precision`; see `encode_embedded` for the shapes."""
        with autocast(prefix.device, self.precision):
            return self._features(prefix, suffix, eot).to(prefix.dtype)

    def _features(self, prefix: Tensor, suffix: Tensor, eot: Tensor) -> Tensor:
        g, p, w = prefix.shape
        c, t = suffix.shape[1:3]
        is_token = torch.arange(t) <= eot[..., None]  # (G, C, T): the tokens up to the EOT

        # `rows`: where the N tokens of all suffixes stand in the padded G x C x T. `ends`: which of them are EOTs. Both
        # are computed on the host, because `nonzero` on a GPU would wait for it.
        rows = is_token.flatten().nonzero().squeeze(1)
        ends = (eot.flatten() + 1).cumsum(0) - 1
        is_token, rows, ends, eot = (
            values.to(prefix.device, non_blocking=True) for values in (is_token, rows, ends, eot)
        )

        prefix = prefix + self.positional_embedding[:p]
        suffix = suffix + self.positional_embedding[p : p + t]

        # All linear layers see one matrix of rows without padding: the prefixes' G x P, then the suffixes' N tokens.
        x = torch.cat([prefix.flatten(0, 1), suffix.flatten(0, 2).index_select(0, rows)])
        prefix_rows = g * p

        *blocks, last = cast("list[Block]", list(self.blocks))
        causal = _mask(torch.ones(t, t, dtype=torch.bool, device=x.device).tril(), x)
        for block in blocks:
            qkv = block.qkv(block.ln_1(x))

            # The prefix comes first, so it attends to itself alone: once for all C suffixes.
            q, k, v = block.split_heads(qkv[:prefix_rows].view(g, p, -1))
            in_prefix = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(prefix_rows, w)

            # A suffix attends to the whole prefix and to its own tokens up to each position.
            of_suffix = block.split_heads(_pad(qkv[prefix_rows:], rows, (g, c, t)))
            in_suffix = _attend(of_suffix, (k, v), causal).index_select(0, rows)
            x = block(x, torch.cat([in_prefix, in_suffix]))

        # The last block computes only the EOT's row: only the EOTs have queries (t = 1), all rows have keys and values.
        qkv = last.qkv(last.ln_1(x))
        _, k, v = last.split_heads(qkv[:prefix_rows].view(g, p, -1))
        q, suffix_k, suffix_v = last.split_heads(_pad(qkv[prefix_rows:], rows, (g, c, t)))
        q = q.gather(-2, eot[:, :, None, None, None].expand(-1, -1, q.shape[2], 1, q.shape[-1]))

        # Up to its EOT a suffix has no later tokens: the mask only leaves out the padding.
        up_to_eot = _mask(is_token[:, :, None, None], x)
        x = last(x[prefix_rows:].index_select(0, ends), _attend((q, suffix_k, suffix_v), (k, v), up_to_eot))
        features: Tensor = self.ln_final(x) @ self.text_projection
        return features.view(g, c, -1)

    def freeze(self) -> TextTower:
        """Set evaluation mode and switch gradients of all weights off; return the tower itself."""
        return self.eval().requires_grad_(False)


def _mask(allowed: Tensor, like: Tensor) -> Tensor:
    """Return the addend of attention logits: 0 where attention is allowed, minus infinity elsewhere."""
    return like.new_zeros(allowed.shape).masked_fill(~allowed, -torch.inf)


def _pad(values: Tensor, rows: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Put values (N, W) at their `rows` (N,) of a zero tensor (G, C, T, W)."""
    return values.new_zeros(math.prod(shape), values.shape[-1]).index_copy(0, rows, values).view(*shape, -1)


def _attend(own: tuple[Tensor, Tensor, Tensor], prefix: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
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
    to_prefix = (stacked @ prefix_k.mT).view(g, h, c, t, -1).transpose(1, 2)

    # One softmax over prefix and suffix together, as if both were one sequence.
    weights = torch.cat([to_prefix, q @ k.mT + mask], dim=-1).softmax(-1)
    prefix_weights, own_weights = torch.split(weights, [prefix_k.shape[-2], k.shape[-2]], dim=-1)

    from_prefix = prefix_weights.transpose(1, 2).reshape(g, h, c * t, -1) @ prefix_v
    attended = from_prefix.view(g, h, c, t, d).transpose(1, 2) + own_weights @ v
    rows: Tensor = attended.transpose(2, 3).reshape(g * c * t, h * d)
    return rows


def save_tower(tower: TextTower, path: Path) -> None:
    """Write the tower to one safetensors file, which can be read without open_clip."""
    save_tensors(tower.state_dict(), path, config=json.dumps(asdict(tower.config), sort_keys=True))


def load_tower(path: Path) -> TextTower:
    """Read a tower that `save_tower` wrote; it is frozen and on the CPU.

    Raises:
        InputError: the file does not exist or was not written by `save_tower`.
    """
    state, metadata = read_tensors(path)
    with wrap_parser_errors(path, "recreate it with `dvc repro text_tower`"):
        config = TypeAdapter(TowerConfig).validate_json(metadata["config"], strict=True)
        blocks = {name.split(".")[1] for name in state if name.startswith("blocks.")}
        if len(blocks) != config.layers or config.heads < 1:
            raise InputError(
                f"{path}: {len(blocks)} blocks do not match its config: {config.layers} layers, {config.heads} heads"
            )

        # On "meta" the new parameters take no memory and no time; the file's tensors take their place.
        with torch.device("meta"):
            tower = TextTower(config)
        tower.load_state_dict(state, assign=True)
    return tower.freeze()
