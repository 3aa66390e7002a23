"""The text tower of a CLIP, frozen, with gradients to its prompts.

Causal attention and pooling at the EOT token (CLIP's, MetaCLIP 2's) allow three exact savings over `open_clip`'s
77-token `encode_text`:

- Tokens after each EOT are left out, because no token before them attends to them.
- The states of a shared beginning `[SOS] context` are computed once for all classes, because they depend on no class
  name. They enter the attention of the class names as keys and values.
- The last block computes only the EOT's row, because only this row is pooled.

Other towers (SigLIP's, CLIPA's, MobileCLIP's, CoCa's) attend to the padding, or pool elsewhere. Their prompts are
padded as in training, and every row passes every block (`_padded_features`).

Token ids decide the shapes of a pass. They stay on the host, so that computing these shapes waits for no device.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, cast

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from features.errors import InputError
from features.formats.tensors import read_tensors, save_tensors
from features.formats.untrusted import wrap_parser_errors
from features.runtime.devices import Precision, autocast
from features.text.attention import additive_mask, attend, insert_context, pad
from features.text.tokenizer import CLIP, Tokenizer, text_lengths, tokenizer_from_file, tokenizer_to_file

Pool = Literal["eot", "last", "class_token"]
Position = Literal["end", "middle", "front"]

FIX_HINT = "recreate it with `dvc repro text_tower`"
HUGGING_FACE = "hugging_face"  # the metadata of a tower of transformers (`features.text.hugging_face`)

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
        causal: whether a token attends only to itself and to tokens before it.
        pool: the row that becomes the feature: of the EOT, of the last position, or of a class token after the text.
        pad: id of the token that fills a prompt up to the context length.
        mapped_to_pad: id of a token that the tower reads as padding (CLIPA's EOT), or None.
        gelu_tanh: whether the activation is GELU's tanh approximation.
        norm_eps: epsilon of the layer norms.
        projection: `matrix`, a matrix with a bias, or `none` if the pooled row is the feature.
        logit_bias: what a sigmoid model adds to its logits. A softmax over classes does not depend on it.
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
    causal: bool = True
    pool: Pool = "eot"
    pad: int = 0
    mapped_to_pad: int | None = None
    gelu_tanh: bool = False
    norm_eps: float = 1e-5
    projection: Literal["matrix", "matrix_and_bias", "none"] = "matrix"
    logit_bias: float | None = None

    @property
    def shares_prefix(self) -> bool:
        """Return whether the beginning of a prompt is independent of its end, so that it is computed once."""
        return self.causal and self.pool == "eot"


class Block(nn.Module):
    """One pre-norm residual attention block without its attention.

    The attention is in `TextTower`, because only the tower knows which rows of x belong to which prompt.
    """

    def __init__(self, config: TowerConfig) -> None:
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


class TextTower(nn.Module):
    """A text tower with its tokenizer: encodes prompts, as token ids or with learned vectors, as text features.

    Attributes:
        tokenizer: what its token ids come from.
        precision: of the passes. Weights, contexts, their gradients and features stay float32.
    """

    precision: Precision = "float32"

    def __init__(self, config: TowerConfig, tokenizer: Tokenizer = CLIP) -> None:
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

    def embed(self, tokens: Tensor) -> Tensor:
        """Embed token ids (...) on the host as (..., W) on the tower's device."""
        if self.config.mapped_to_pad is not None:
            tokens = tokens.masked_fill(tokens == self.config.mapped_to_pad, self.config.pad)
        table = self.token_embedding.weight
        return F.embedding(tokens.to(table.device, non_blocking=True), table)

    def project(self, rows: Tensor) -> Tensor:
        """Return the features (N, D) of pooled rows (N, W)."""
        rows = self.ln_final(rows)
        if self.text_projection is not None:
            rows = rows @ self.text_projection
        return rows if self.projection_bias is None else rows + self.projection_bias

    def encode(self, tokens: Tensor) -> Tensor:
        """Encode tokens (C, T) of the tower's tokenizer as features (C, D), not normalised."""
        no_context = self.token_embedding.weight.new_empty(1, 0, self.config.width)
        features: Tensor = self(no_context, tokens)
        return features[0]

    def forward(self, context: Tensor, tokens: Tensor, position: Position = "end") -> Tensor:
        """Encode prompts with learned vectors before, around or after a class name, after the SOS if there is one.

        Args:
            context: (G, L, W) vectors in token-embedding space; gradients flow to them.
            tokens: token ids on the host: (C, T), the same C texts for each of the G contexts, or (G, C, T).
            position: of the class name: after the context, after its first half, or before it. A full stop stays last.

        Returns:
            (G, C, D) features, not normalised.

        Raises:
            InputError: context and text together are longer than the tower's context length.
        """
        starts = self.tokenizer.starts
        # Positions of the EOTs among the tokens after SOS.
        eot = text_lengths(tokens) - 1 - starts

        # Tokens after the longest text's EOT are padding, so they are cut off. What is left after the EOT of a shorter
        # text is dropped, or replaced by the tower's own padding.
        longest = int(eot.max()) + 1
        suffix = self.embed(tokens[..., starts : longest + starts])
        if suffix.ndim == 3:
            suffix = suffix.expand(len(context), -1, -1, -1)
        eot = eot.expand(suffix.shape[:2])

        sos = self.embed(tokens.flatten()[:starts]).expand(len(context), starts, -1)
        before = {"end": context.shape[1], "middle": context.shape[1] // 2, "front": 0}[position]
        prefix = torch.cat([sos, context[:, :before]], dim=1)
        if before < context.shape[1]:
            suffix, eot = insert_context(context[:, before:], suffix, eot, self.tokenizer.full_stop)
        return self.encode_embedded(prefix, suffix, eot)

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
        length = p + t if config.shares_prefix else config.context_length + 1
        bytes_of_prompt = 4 * KEPT_FLOATS * config.layers * config.width * length
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
        compute = self._features if self.config.shares_prefix else self._padded_features
        with autocast(prefix.device, self.precision):
            return compute(prefix, suffix, eot).to(prefix.dtype)

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

    def freeze(self) -> TextTower:
        """Set evaluation mode and switch gradients of all weights off; return the tower itself."""
        return self.eval().requires_grad_(False)


def save_tower(tower: TextTower, path: Path) -> None:
    """Write the tower and its tokenizer to one safetensors file, which can be read without open_clip's model."""
    # Without the defaults, which are CLIP's, so that a later field changes no byte of CLIP's towers.
    defaults = {field.name: field.default for field in fields(TowerConfig)}
    config = {name: value for name, value in asdict(tower.config).items() if value != defaults[name]}
    metadata = {"config": json.dumps(config, sort_keys=True)}

    tensors, settings = tokenizer_to_file(tower.tokenizer)
    save_tensors({**tower.state_dict(), **tensors}, path, **metadata, **settings)


def save_absent_tower(path: Path, encoder: str) -> None:
    """Write the file in place of a tower, for an encoder whose class texts are imported."""
    save_tensors({}, path, absent=encoder)


def load_tower(path: Path) -> TextTower:
    """Read a tower that `save_tower` wrote; it is frozen and on the CPU.

    Raises:
        InputError: the file does not exist or was not written by `save_tower`.
    """
    state, metadata = read_tensors(path)
    if "absent" in metadata:
        raise InputError(
            f"encoder {metadata['absent']!r} has no text tower: its class texts are imported, so nothing can be encoded"
        )
    if HUGGING_FACE in metadata:
        raise InputError(f"{path} is a text tower of transformers, with which prompts cannot be learned")
    with wrap_parser_errors(path, FIX_HINT):
        config = TypeAdapter(TowerConfig).validate_json(metadata["config"], strict=True)
        tokenizer = tokenizer_from_file(state, metadata)
        blocks = {name.split(".")[1] for name in state if name.startswith("blocks.")}
        if len(blocks) != config.layers or config.heads < 1:
            raise InputError(
                f"{path}: {len(blocks)} blocks do not match its config: {config.layers} layers, {config.heads} heads"
            )

        # On "meta" the new parameters take no memory and no time; the file's tensors take their place.
        with torch.device("meta"):
            tower = TextTower(config, tokenizer)
        tower.load_state_dict(state, assign=True)
    return tower.freeze()
