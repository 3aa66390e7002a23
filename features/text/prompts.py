"""Texts to CLIP's token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from features.errors import raise_all

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer

OPENAI_CONTEXT_LENGTH = 77


@lru_cache(maxsize=1)
def _tokenizer() -> SimpleTokenizer:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def prompt_text(name: str) -> str:
    """A class name as a prompt says it: `_` becomes a space (CoOp's and SHIP's code)."""
    return name.replace("_", " ")


def tokenize_words(text: str) -> Tensor:
    """(L,) int64 token ids of a text alone, without SOS and EOT; to initialise a context from."""
    return torch.tensor(_tokenizer().encode(text), dtype=torch.int64)


def token_text(token: int) -> str:
    """What one token of the vocabulary stands for: a word, or `piece…` for one that does not end a word.

    The vocabulary's characters stand for bytes; those that are no text on their own are shown in hexadecimal.
    """
    tokenizer = _tokenizer()
    piece = tokenizer.decoder[token]
    whole = piece.endswith("</w>") or token in {tokenizer.sot_token_id, tokenizer.eot_token_id}
    content = bytes(tokenizer.byte_decoder[character] for character in piece.removesuffix("</w>"))
    return content.decode("utf-8", errors="backslashreplace") + ("" if whole else "…")


def tokenize(texts: Sequence[str], *, room: int = OPENAI_CONTEXT_LENGTH) -> Tensor:
    """(C, T) int64: SOS, the text's tokens, EOT, then zeros up to the longest of the C texts.

    Args:
        texts: C texts. Unlike open_clip's tokenizer, none is cut.
        room: most tokens that a text may have, SOS and EOT included.

    Raises:
        InputError: texts that are longer; all of them, with their lengths.
    """
    tokenizer = _tokenizer()
    rows = [[tokenizer.sot_token_id, *tokenizer.encode(text), tokenizer.eot_token_id] for text in texts]
    long = [f"{text!r} has {len(row)} tokens" for text, row in zip(texts, rows, strict=True) if len(row) > room]
    raise_all(long, f"the text tower has room for {room} tokens, [SOS] and [EOT] included; shorten these")
    longest = max((len(row) for row in rows), default=0)
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.int64)


def class_tokens(names: Sequence[str], *, context_length: int, prompt: int) -> Tensor:
    """(C, T) int64 tokens of `name.`, which `[SOS] context` of `prompt` learned vectors will precede.

    BPE splits at spaces first, so these are the tokens that follow "X X X X" in the official codes' "X X X X name.".
    """
    return tokenize([f"{prompt_text(name)}." for name in names], room=context_length - prompt)


def format_prompts(
    template: str, names: Sequence[str], descriptions: Mapping[str, str] = MappingProxyType({})
) -> list[str]:
    """A template such as "a photo of a {}." with each class name in its place, and after it its description if any."""
    return [
        template.format(f"{prompt_text(name)}, {descriptions[name]}" if name in descriptions else prompt_text(name))
        for name in names
    ]
