"""Tokenizers of text towers: CLIP's BPE, and those that a `tokenizer.json` describes (SigLIP's, BERT's, XLM-V's).

Every row of token ids is `[SOS] text [EOT]` and zeros. No [EOT] has the id 0, so the last id of a row that is not 0 is
its EOT, whatever the tokenizer (`text_lengths`). A tower that attends to padding puts its own padding there.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from features.errors import InputError, raise_all

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer

Clean = Literal["lower", "whitespace", "canonicalize"]  # open_clip's names of what it does to a text first
FILE = "tokenizer.json"
TENSOR = "tokenizer"  # in the file of a tower: the tensor of the text of a `tokenizer.json`, and its metadata
SETTINGS = "tokenizer_config.json"  # beside it; names the padding token


class Tokenizer(ABC):
    """Turns texts into token ids, as a text tower was trained to read them."""

    @property
    @abstractmethod
    def starts(self) -> int:
        """Return the number of tokens before a text: 1 for [SOS], or 0."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Return the ids of a text with its [SOS], if there is one, and its [EOT]."""

    @abstractmethod
    def words(self, text: str, *, first: bool = True) -> list[int]:
        """Return the ids of a text without [SOS] and [EOT], as they are at the beginning or after other words."""

    @abstractmethod
    def token_text(self, token: int) -> str:
        """Return the text of one token."""

    @cached_property
    def full_stop(self) -> int:
        """Return the number of tokens of the full stop after a name: 0 for a tokenizer that leaves it out."""
        return len(self.words("cat.", first=False)) - len(self.words("cat", first=False))

    def tokenize(self, texts: Sequence[str], *, room: int) -> Tensor:
        """Return (C, T) int64 token ids: each text, then zeros up to the longest of the C texts.

        Args:
            texts: C texts. None is truncated, unlike in open_clip's tokenizers.
            room: the most tokens that a text may have, with SOS and EOT.

        Raises:
            InputError: texts are longer than `room`; all of them are listed with their lengths.
        """
        return _rows(texts, [self.encode(text) for text in texts], room)

    def tokenize_names(self, texts: Sequence[str], *, room: int) -> Tensor:
        """Return the same for class names, which follow learned vectors: with the ids that they have after words."""
        return _rows(texts, [self.encode_name(text) for text in texts], room)

    def encode_name(self, text: str) -> list[int]:
        """Return the ids of a class name that follows learned vectors, with [SOS] and [EOT]."""
        ends = self.encode("")
        return [*ends[: self.starts], *self.words(text, first=False), *ends[self.starts :]]


def text_lengths(tokens: Tensor) -> Tensor:
    """Return the number of tokens (...) of texts (..., T), [SOS] and [EOT] included."""
    positions = (tokens != 0) * torch.arange(1, tokens.shape[-1] + 1)
    return F.pad(positions, (1, 0)).amax(-1)  # imported class texts have no tokens


def _rows(texts: Sequence[str], rows: Sequence[list[int]], room: int) -> Tensor:
    too_long = [f"{text!r} has {len(row)} tokens" for text, row in zip(texts, rows, strict=True) if len(row) > room]
    raise_all(too_long, f"the text tower has room for {room} tokens, [SOS] and [EOT] included; shorten these texts")

    longest = max((len(row) for row in rows), default=0)
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.int64)


@lru_cache(maxsize=2)
def _simple_tokenizer(clean: Clean) -> SimpleTokenizer:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(clean=clean)


@dataclass(frozen=True)
class ClipTokenizer(Tokenizer):
    """CLIP's byte-pair encoding, which open_clip ships.

    Attributes:
        clean: what is done to a text first.
    """

    clean: Clean = "lower"

    @property
    def starts(self) -> int:
        """Return 1."""
        return 1

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text with [SOS] and [EOT]."""
        tokenizer = _simple_tokenizer(self.clean)
        return [tokenizer.sot_token_id, *self.words(text), tokenizer.eot_token_id]

    def words(self, text: str, *, first: bool = True) -> list[int]:  # noqa: ARG002 (BPE splits at spaces first)
        """Return the ids of a text, which are the same everywhere."""
        return list(_simple_tokenizer(self.clean).encode(text))

    def token_text(self, token: int) -> str:
        """Return a word, or `piece…` for a token that does not end a word.

        The characters of the vocabulary stand for bytes. Bytes that are no valid UTF-8 are shown in hexadecimal.
        """
        tokenizer = _simple_tokenizer(self.clean)
        piece = tokenizer.decoder[token]
        ends_word = piece.endswith("</w>") or token in {tokenizer.sot_token_id, tokenizer.eot_token_id}

        content = bytes(tokenizer.byte_decoder[character] for character in piece.removesuffix("</w>"))
        return content.decode("utf-8", errors="backslashreplace") + ("" if ends_word else "…")


CLIP = ClipTokenizer()


@dataclass(frozen=True)
class JsonTokenizer(Tokenizer):
    """A tokenizer of the library `tokenizers`.

    Attributes:
        content: text of its `tokenizer.json`.
        pad: id of its padding token.
        clean: what is done to a text first.
    """

    content: str
    pad: int
    clean: Clean = "whitespace"

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer as Library

        tokenizer = Library.from_str(self.content)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def _clean(self, text: str) -> str:
        from open_clip.tokenizer import get_clean_fn

        return str(get_clean_fn(self.clean)(text))

    @cached_property
    def starts(self) -> int:
        """Return 1 if the tokenizer puts a token before each text."""
        return len(self._tokenizer.encode("").ids) - 1

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text with the special tokens of the tokenizer."""
        return list(self._tokenizer.encode(self._clean(text)).ids)

    def words(self, text: str, *, first: bool = True) -> list[int]:
        """Return the ids of a text without special tokens; a space before it is part of its first token in many."""

        def ids(text: str) -> list[int]:
            return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

        cleaned = self._clean(text)
        if first:
            return ids(cleaned)
        before = ids("a")
        after = ids(f"a {cleaned}")
        return after[len(before) :] if after[: len(before)] == before else ids(cleaned)

    def token_text(self, token: int) -> str:
        """Return the token as the vocabulary writes it; `▁` stands for a space."""
        return self._tokenizer.id_to_token(token) or f"<{token}>"


def read_tokenizer(folder: Path, clean: Clean, where: str) -> JsonTokenizer:
    """Read a tokenizer from the folder of its `tokenizer.json`, or from the file itself.

    Raises:
        InputError: there is no such file, it cannot be read, puts no end after a text, or names no padding token.
    """
    file = folder if folder.is_file() else folder / FILE
    try:
        content = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: cannot read the tokenizer {file}: {error}") from error

    try:
        pad = _padding(content, file.parent / SETTINGS)
        tokenizer = JsonTokenizer(content, -1 if pad is None else pad, clean)
        ends = tokenizer.encode("")
    except InputError:
        raise
    except Exception as error:  # the library raises plain exceptions
        raise InputError(f"{where}: {file} is not a tokenizer: {error}") from error
    if pad is None:
        raise InputError(f"{where}: neither {file} nor {SETTINGS} beside it names a padding token")
    if len(ends) not in (1, 2) or ends[-1] == 0:
        raise InputError(
            f"{where}: {file} puts the tokens {ends} around a text; only an end token, or a start and "
            "an end token, are supported"
        )
    return tokenizer


def _padding(content: str, settings: Path) -> int | None:
    """Return the id of the padding token: by the settings beside a tokenizer, or as the tokenizer itself says."""
    from tokenizers import Tokenizer as Library

    tokenizer = Library.from_str(content)
    if settings.is_file():
        token = json.loads(settings.read_text(encoding="utf-8")).get("pad_token")
        token = token.get("content") if isinstance(token, dict) else token
        if token is not None:
            found: int | None = tokenizer.token_to_id(token)
            return found
    return None if tokenizer.padding is None else int(tokenizer.padding["pad_id"])


def tokenizer_to_file(tokenizer: Tokenizer) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata that keep a tokenizer in a file; none for CLIP's."""
    if tokenizer == CLIP:
        return {}, {}
    settings = asdict(tokenizer)  # type: ignore[call-overload]
    tensors = {}
    if "content" in settings:  # of megabytes, so it is stored beside the weights
        tensors[TENSOR] = torch.frombuffer(bytearray(settings.pop("content").encode()), dtype=torch.uint8)
    return tensors, {TENSOR: json.dumps(settings, sort_keys=True)}


def tokenizer_from_file(state: dict[str, Tensor], metadata: dict[str, str]) -> Tokenizer:
    """Take the tokenizer out of the tensors and metadata of a file."""
    settings = json.loads(metadata.get(TENSOR, "{}"))
    if TENSOR not in state:
        return ClipTokenizer(**settings)
    return JsonTokenizer(bytes(state.pop(TENSOR).numpy()).decode(), **settings)
