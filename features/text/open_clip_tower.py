"""Text towers of open_clip's own: transformers of pre-norm blocks, which learned vectors pass as tokens do.

Causal attention and pooling at the EOT token (CLIP's, MetaCLIP 2's) allow three exact savings over `open_clip`'s
77-token `encode_text`:

- Tokens after each EOT are left out, because no token before them attends to them.
- The states of a shared beginning `[SOS] context` are computed once for all classes, because they depend on no class
  name. They enter the attention of the class names as keys and values.
- The last block computes only the EOT's row, because only this row is pooled.

Other towers (SigLIP's, CLIPA's, MobileCLIP's, CoCa's) attend to the padding, or pool elsewhere. Their prompts are
padded as in training, and every row passes every block (`_padded_features`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from features.text.attention import additive_mask, attend, pad
from features.text.text_tower import TextTower, TowerConfig
from features.text.tokenizer import CLIP, Tokenizer

Pool = Literal["eot", "last", "class_token"]


@dataclass(frozen=True, kw_only=True)
class OpenClipConfig(TowerConfig):
    """Shape of such a tower.

    Attributes:
        heads: attention heads of a block.
        vocabulary: number of tokens.
        mlp_width: width of the hidden layer of a block.
        quick_gelu: whether the activation is OpenAI's x * sigmoid(1.702 x) instead of GELU.
        causal: whether a token attends only to itself and to tokens before it.
        pool: the row that becomes the feature: of the EOT, of the last position, or of a class token after the text.
        pad: id of the token that fills a prompt up to the context length.
        mapped_to_pad: id of a token that the tower reads as padding (CLIPA's EOT), or None.
        gelu_tanh: whether the activation is GELU's tanh approximation.
        norm_eps: epsilon of the layer norms.
        projection: `matrix`, a matrix with a bias, or `none` if the pooled row is the feature.
    """

    heads: int
    vocabulary: int
    mlp_width: int
    quick_gelu: bool
    causal: bool = True
    pool: Pool = "eot"
    pad: int = 0
    mapped_to_pad: int | None = None
    gelu_tanh: bool = False
    norm_eps: float = 1e-5
    projection: Literal["matrix", "matrix_and_bias", "none"] = "matrix"

    @property
    def shares_prefix(self) -> bool:
        """Return whether the beginning of a prompt is independent of its end."""
        return self.causal and self.pool == "eot"


class Block(nn.Module):
    """One pre-norm residual attention block without its attention.

    The attention is in `OpenClipTower`, because only the tower knows which rows of x belong to which prompt.
    """

    def __init__(self, config: OpenClipConfig) -> None:
        super().__init__()
        width = config.width
        self.heads, self.quick_gelu = config.heads, config.quick_gelu
        self.approximate = "tanh" if config.gelu_tanh else "none"
        self.ln_1, self.ln_2 = (nn.LayerNorm(width, eps=config.norm_eps) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc, self.proj = nn.Linear(width, config.mlp_width), nn.Linear(config.mlp_width, width)

    def split_heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split rows (..., T, 3 W) into queries, keys and values, each (..., heads, T, W / heads)."""
        heads = (self.heads, qkv.shape[-1] // (3 * self.heads))
        q, k, v = qkv.view(*qkv.shape[:-1], 3, *heads).movedim((-3, -2), (0, -3))
        return q, k, v

    def forward(self, x: Tensor, attended: Tensor) -> Tensor:
        """Compute the rest of the block for rows x (..., W) and the outputs of their attention (..., W)."""
        x = x + self.out(attended)

        hidden = self.fc(self.ln_2(x))
        hidden = (
            hidden * torch.sigmoid(1.702 * hidden) if self.quick_gelu else F.gelu(hidden, approximate=self.approximate)
        )
        out: Tensor = x + self.proj(hidden)
        return out


class OpenClipTower(TextTower):
    """A text tower of open_clip's own with its tokenizer."""

    config: OpenClipConfig

    def __init__(self, config: OpenClipConfig, tokenizer: Tokenizer = CLIP) -> None:
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        class_token = config.pool == "class_token"
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length + class_token, config.width))
        self.class_embedding = nn.Parameter(torch.empty(config.width)) if class_token else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.ln_final = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.text_projection, self.projection_bias = None, None
        if config.projection != "none":
            self.text_projection = nn.Parameter(torch.empty(config.width, config.embed_dim))
        if config.projection == "matrix_and_bias":
            self.projection_bias = nn.Parameter(torch.empty(config.embed_dim))

    @property
    def table(self) -> Tensor:
        """Return the embeddings (V, W) of all tokens."""
        return self.token_embedding.weight

    def embed(self, tokens: Tensor) -> Tensor:
        """Embed token ids (...) on the host as (..., W) on the tower's device."""
        if self.config.mapped_to_pad is not None:
            tokens = tokens.masked_fill(tokens == self.config.mapped_to_pad, self.config.pad)
        table = self.table
        return F.embedding(tokens.to(table.device, non_blocking=True), table)

    def project(self, rows: Tensor) -> Tensor:
        """Return the features (N, D) of pooled rows (N, W)."""
        rows = self.ln_final(rows)
        if self.text_projection is not None:
            rows = rows @ self.text_projection
        return rows if self.projection_bias is None else rows + self.projection_bias

    def compute(self, prefix: Tensor, suffix: Tensor, eot: Tensor) -> Tensor:
        """Compute the features (G, C, D) of one pass; see `encode_embedded` for the shapes."""
        compute = self._features if self.config.shares_prefix else self._padded_features
        return compute(prefix, suffix, eot)

    def _padded_features(self, prefix: Tensor, suffix: Tensor, eot: Tensor) -> Tensor:
        """Compute the features of a tower that sees padding, or pools elsewhere than at the EOT."""
        config = self.config
        g, p, w = prefix.shape
        c, t = suffix.shape[1:3]

        # Only with causal attention does no row see the padding after it. CoCa's class token sees the first padding.
        n = min(config.context_length, p + t + 1) if config.causal else config.context_length
        lengths = (p + eot + 1).to(prefix.device, non_blocking=True)[..., None]  # (G, C, 1), of the prompts
        is_prompt = torch.arange(n, device=prefix.device) < lengths  # (G, C, n)
        padding = self.embed(torch.tensor(config.pad))

        x = torch.cat([prefix[:, None].expand(g, c, p, w), suffix], dim=2)
        x = F.pad(x, (0, 0, 0, n - p - t)) if n > p + t else x
        x = torch.where(is_prompt[..., None], x, padding) + self.positional_embedding[:n]
        if self.class_embedding is not None:
            last = (self.class_embedding + self.positional_embedding[-1]).expand(g, c, 1, w)
            x = torch.cat([x, last], dim=2)

        mask = self._padded_mask(lengths, n)
        for block in cast("list[Block]", list(self.blocks)):
            q, k, v = block.split_heads(block.qkv(block.ln_1(x)))
            x = block(x, F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(2, 3).flatten(-2))

        if config.pool == "eot":
            rows = x.gather(2, (lengths - 1)[..., None].expand(-1, -1, -1, w))[:, :, 0]
        else:
            rows = x[:, :, -1]
        return self.project(rows)

    def _padded_mask(self, lengths: Tensor, n: int) -> Tensor | None:
        """Return which keys each row may attend to, as (..., T, T) of bool; None: all."""
        if not self.config.causal:
            return None
        rows = n + (self.class_embedding is not None)
        causal = torch.ones(rows, rows, dtype=torch.bool, device=lengths.device).tril()
        if self.class_embedding is None:
            return causal

        # In CoCa a key is visible if the token before it is no padding: with an offset that its weights were trained
        # with. The class token therefore sees the first padding, and itself only after a text of full length.
        place = torch.arange(rows, device=lengths.device)
        place[-1] = self.config.context_length
        return causal & (place <= lengths)[:, :, None, None]

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
        causal = additive_mask(torch.ones(t, t, dtype=torch.bool, device=x.device).tril(), x)
        for block in blocks:
            qkv = block.qkv(block.ln_1(x))

            # The prefix comes first, so it attends to itself alone: once for all C suffixes.
            q, k, v = block.split_heads(qkv[:prefix_rows].view(g, p, 3 * w))
            in_prefix = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(prefix_rows, w)

            # A suffix attends to the whole prefix and to its own tokens up to each position.
            of_suffix = block.split_heads(pad(qkv[prefix_rows:], rows, (g, c, t)))
            in_suffix = attend(of_suffix, (k, v), causal).index_select(0, rows)
            x = block(x, torch.cat([in_prefix, in_suffix]))

        # The last block computes only the EOT's row: only the EOTs have queries (t = 1), all rows have keys and values.
        qkv = last.qkv(last.ln_1(x))
        _, k, v = last.split_heads(qkv[:prefix_rows].view(g, p, 3 * w))
        q, suffix_k, suffix_v = last.split_heads(pad(qkv[prefix_rows:], rows, (g, c, t)))
        q = q.gather(-2, eot[:, :, None, None, None].expand(-1, -1, q.shape[2], 1, q.shape[-1]))

        # Up to its EOT a suffix has no later tokens: the mask only leaves out the padding.
        up_to_eot = additive_mask(is_token[:, :, None, None], x)
        x = last(x[prefix_rows:].index_select(0, ends), attend((q, suffix_k, suffix_v), (k, v), up_to_eot))
        return self.project(x).view(g, c, -1)
