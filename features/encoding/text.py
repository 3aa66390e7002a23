"""Load the text tower of an encoder, with the tokenizer that it was trained with."""

from __future__ import annotations

from features.encoding.configuration import check_supported, locate_tokenizer, model_config
from features.encoding.definition import EncoderSpec
from features.encoding.encoder import Encoder
from features.encoding.open_clip_text import from_open_clip
from features.encoding.text_support import text_support
from features.text.text_tower import TextTower


def text_tower_of(encoder: Encoder, spec: EncoderSpec) -> TextTower:
    """Return the text tower of a loaded encoder, on the CPU.

    Raises:
        InputError: the text tower is not supported, or its tokenizer is neither on this machine nor downloadable.
    """
    check_supported(encoder.name, spec)
    tokenizer = locate_tokenizer(encoder.name, spec)
    strips_end = text_support(model_config(spec) or {}).strips_end
    return from_open_clip(encoder.model, encoder.name, encoder.weights_sha256, tokenizer, strips_end=strips_end)
