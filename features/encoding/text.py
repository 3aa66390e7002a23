"""Load the text tower of an encoder, with the tokenizer that it was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from features.encoding.configuration import check_supported, locate_tokenizer, model_config
from features.encoding.definition import EncoderSpec
from features.encoding.encoder import Encoder
from features.encoding.open_clip_text import from_open_clip
from features.encoding.text_support import text_support
from features.text.hugging_face import HuggingFaceConfig, HuggingFaceTower
from features.text.text_tower import TextTower
from features.text.tokenizer import Tokenizer


def text_tower_of(encoder: Encoder, spec: EncoderSpec) -> TextTower:
    """Return the text tower of a loaded encoder, on the CPU.

    Raises:
        InputError: the text tower is not supported, or its tokenizer is neither on this machine nor downloadable.
    """
    check_supported(encoder.name, spec)
    tokenizer = locate_tokenizer(encoder.name, spec)
    config = model_config(spec) or {}
    support = text_support(config)
    if support.hugging_face:
        return from_hugging_face(encoder, tokenizer, config)
    strips_end = support.strips_end
    return from_open_clip(encoder.model, encoder.name, encoder.weights_sha256, tokenizer, strips_end=strips_end)


def from_hugging_face(encoder: Encoder, tokenizer: Tokenizer, model_cfg: Mapping[str, Any]) -> HuggingFaceTower:
    """Take a text tower of transformers out of a loaded encoder, with open_clip's configuration of the model."""
    from open_clip import CLIPTextCfg

    model: Any = encoder.model
    known = {field.name for field in fields(CLIPTextCfg)}
    text = CLIPTextCfg(**{name: value for name, value in model_cfg["text_cfg"].items() if name in known})
    bias = getattr(model, "logit_bias", None)
    transformer = model.text.config
    config = HuggingFaceConfig(
        width=transformer.hidden_size,
        layers=transformer.num_hidden_layers,
        transformer=transformer.to_json_string(),
        pooler=text.hf_pooler_type,
        projection=text.hf_proj_type,
        embed_dim=encoder.embed_dim,
        context_length=text.context_length,
        logit_scale=float(model.logit_scale.detach().exp()),
        encoder=encoder.name,
        weights_sha256=encoder.weights_sha256,
        logit_bias=None if bias is None else float(bias.detach()),
    )
    tower = HuggingFaceTower(config, tokenizer)
    tower.adapter.load_state_dict(model.text.state_dict())
    return tower.freeze()
