"""Class names in templates, and as token ids that follow learned vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from torch import Tensor

from features.text.tokenizer import CLIP, Tokenizer


def prompt_text(name: str) -> str:
    """Return a class name as it stands in a prompt: `_` becomes a space (CoOp's and SHIP's code)."""
    return name.replace("_", " ")


def class_tokens(names: Sequence[str], *, context_length: int, prompt: int, tokenizer: Tokenizer = CLIP) -> Tensor:
    """Return (C, T) int64 token ids of `name.`, which leave room for `prompt` learned vectors after SOS.

    The ids are those that follow "X X X X" in the prompts of the official codes, "X X X X name.".

    Raises:
        InputError: names are too long; all of them are listed.
    """
    return tokenizer.tokenize_names([f"{prompt_text(name)}." for name in names], room=context_length - prompt)


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
