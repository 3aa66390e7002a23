"""Turn class names and templates into CLIP's token ids."""

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
    """Return a class name as it stands in a prompt: `_` becomes a space (CoOp's and SHIP's code)."""
    return name.replace("_", " ")


def tokenize_words(text: str) -> Tensor:
    """Return the (L,) int64 token ids of a text without SOS and EOT, to initialise a learned context from."""
    return torch.tensor(_tokenizer().encode(text), dtype=torch.int64)


def token_text(token: int) -> str:
    """Return the text of one token: a word, or `piece…` for a token that does not end a word.

    The characters of the vocabulary stand for bytes. Bytes that are no valid UTF-8 are shown in hexadecimal.
    """
    tokenizer = _tokenizer()
    piece = tokenizer.decoder[token]
    ends_word = piece.endswith("</w>") or token in {tokenizer.sot_token_id, tokenizer.eot_token_id}

    content = bytes(tokenizer.byte_decoder[character] for character in piece.removesuffix("</w>"))
    return content.decode("utf-8", errors="backslashreplace") + ("" if ends_word else "…")


def tokenize(texts: Sequence[str], *, room: int = OPENAI_CONTEXT_LENGTH) -> Tensor:
    """Return (C, T) int64 token ids: SOS, the text, EOT, then zeros up to the longest of the C texts.

    Args:
        texts: C texts. None is truncated, unlike in open_clip's tokenizer.
        room: the most tokens that a text may have, with SOS and EOT.

    Raises:
        InputError: texts are longer than `room`; all of them are listed with their lengths.
    """
    tokenizer = _tokenizer()
    rows = [[tokenizer.sot_token_id, *tokenizer.encode(text), tokenizer.eot_token_id] for text in texts]

    too_long = [f"{text!r} has {len(row)} tokens" for text, row in zip(texts, rows, strict=True) if len(row) > room]
    raise_all(too_long, f"the text tower has room for {room} tokens, [SOS] and [EOT] included; shorten these texts")

    longest = max((len(row) for row in rows), default=0)
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.int64)


def class_tokens(names: Sequence[str], *, context_length: int, prompt: int) -> Tensor:
    """Return (C, T) int64 token ids of `name.`, which leave room for `prompt` learned vectors after SOS.

    BPE splits at spaces first. The ids are therefore those that follow "X X X X" in the prompts of the official codes,
    "X X X X name.".

    Raises:
        InputError: names are too long; all of them are listed.
    """
    return tokenize([f"{prompt_text(name)}." for name in names], room=context_length - prompt)


def format_prompts(
    template: str, names: Sequence[str], descriptions: Mapping[str, str] = MappingProxyType({})
) -> list[str]:
    """Return a template such as "a photo of a {}." for each class name.

    A class with a description is written as "name, description".
    """
    subjects = [
        f"{prompt_text(name)}, {descriptions[name]}" if name in descriptions else prompt_text(name) for name in names
    ]
    return [template.format(subject) for subject in subjects]
