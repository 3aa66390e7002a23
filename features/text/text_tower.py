"""The text tower of a CLIP, frozen, with gradients to its prompts; `open_clip_tower` and `hugging_face` are its kinds.

Token ids decide the shapes of a pass. They stay on the host, so that computing these shapes waits for no device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from features.errors import InputError
from features.runtime.devices import Precision, autocast
from features.text.attention import insert_context
from features.text.tokenizer import Tokenizer, text_lengths

Position = Literal["end", "middle", "front"]

# Most bytes that one pass through the tower keeps for its gradient; bounds the memory at a thousand classes.
PASS_BYTES = 4_000_000_000
# Floats that a block keeps for each token, in units of the width W: inputs, heads, and the 4 W wide hidden layer twice.
KEPT_FLOATS = 24


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """What is said of a text tower of any kind, and the encoder it belongs to.

    Attributes:
        width: W, the width of a token embedding.
        layers: number of blocks.
        embed_dim: D, the dimensions of a text feature.
        context_length: the most tokens of a prompt, SOS and EOT included.
        logit_scale: the factor of CLIP's cosines (exp of the learned value).
        encoder: name of the encoder in `params.yaml`.
        weights_sha256: identity of the whole encoder's weights (`features.encoding.encoder`).
        logit_bias: what a sigmoid model adds to its logits. A softmax over classes does not depend on it.
    """

    width: int
    layers: int
    embed_dim: int
    context_length: int
    logit_scale: float
    encoder: str
    weights_sha256: str
    logit_bias: float | None = None

    @property
    def shares_prefix(self) -> bool:
        """Return whether the beginning of a prompt is independent of its end, so that it is computed once."""
        return False


class TextTower(nn.Module, ABC):
    """A text tower with its tokenizer: encodes prompts, as token ids or with learned vectors, as text features.

    Attributes:
        config: its shape, and the encoder it belongs to.
        tokenizer: what its token ids come from.
        precision: of the passes. Weights, contexts, their gradients and features stay float32.
    """

    config: TowerConfig
    tokenizer: Tokenizer
    precision: Precision = "float32"

    @property
    @abstractmethod
    def table(self) -> Tensor:
        """Return the embeddings (V, W) of all tokens."""

    @abstractmethod
    def embed(self, tokens: Tensor) -> Tensor:
        """Embed token ids (...) on the host as (..., W) on the tower's device."""

    @abstractmethod
    def compute(self, prefix: Tensor, suffix: Tensor, eot: Tensor) -> Tensor:
        """Compute the features (G, C, D) of one pass; see `encode_embedded` for the shapes."""

    @property
    def device(self) -> torch.device:
        """Return where the tower is."""
        return next(self.parameters()).device

    def encode(self, tokens: Tensor) -> Tensor:
        """Encode tokens (C, T) of the tower's tokenizer as features (C, D), not normalized."""
        no_context = torch.empty(1, 0, self.config.width, device=self.device)
        features: Tensor = self(no_context, tokens)
        return features[0]

    def forward(self, context: Tensor, tokens: Tensor, position: Position = "end") -> Tensor:
        """Encode prompts with learned vectors before, around or after a class name, after the SOS if there is one.

        Args:
            context: (G, L, W) vectors in token-embedding space; gradients flow to them.
            tokens: token ids on the host: (C, T), the same C texts for each of the G contexts, or (G, C, T).
            position: of the class name: after the context, after its first half, or before it. A full stop stays last.

        Returns:
            (G, C, D) features, not normalized.

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
            (G, C, D) features at the EOT, not normalized.

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
        with autocast(prefix.device, self.precision):
            return self.compute(prefix, suffix, eot).to(prefix.dtype)

    def freeze(self) -> Self:
        """Set evaluation mode and switch gradients of all weights off; return the tower itself."""
        return self.eval().requires_grad_(False)
