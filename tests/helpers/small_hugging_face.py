"""Encoders with a small text tower of transformers, of each kind that open_clip's models have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from small_tokenizers import VOCABULARY, write_tokenizer

from features.encoding.definition import EncoderSpec

SMALL = {"vocab_size": VOCABULARY + 10, "num_hidden_layers": 2, "num_attention_heads": 2}
ROBERTA = {**SMALL, "hidden_size": 16, "intermediate_size": 32, "max_position_embeddings": 90, "pad_token_id": 1}

# Kind -> its `config.json`, open_clip's settings, and the kind of its tokenizer; those of open_clip's models.
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "roberta": ({"model_type": "roberta", **ROBERTA}, {"hf_pooler_type": "mean_pooler"}, "xlm"),
    "xlm-roberta": ({"model_type": "xlm-roberta", **ROBERTA}, {"hf_pooler_type": "mean_pooler"}, "xlm"),
    "mt5": (
        {"model_type": "mt5", **SMALL, "d_model": 16, "d_ff": 32, "d_kv": 8, "num_layers": 2, "num_heads": 2}
        | {"is_encoder_decoder": True},
        {"hf_pooler_type": "mean_pooler"},
        "siglip2",
    ),
    "nllb": (
        {"model_type": "m2m_100", **SMALL, "d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2}
        | {"decoder_layers": 1, "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
        | {"max_position_embeddings": 90, "is_encoder_decoder": True, "pad_token_id": 1},
        {"hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"},
        "xlm",
    ),
}


def write_model(folder: Path, kind: str) -> EncoderSpec:
    """Write a `local-dir:` of a small image tower and a small text tower of transformers; return its definition."""
    config, text, tokenizer = KINDS[kind]
    write_tokenizer(folder, tokenizer)
    (folder / "transformer").mkdir()
    (folder / "transformer/config.json").write_text(json.dumps(config), encoding="utf-8")
    model = {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"hf_model_name": str(folder / "transformer"), "hf_tokenizer_name": kind, **text},
    }
    content = {"model_cfg": model, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(content), encoding="utf-8")
    return EncoderSpec(model=f"local-dir:{folder}", pretrained="random:0")
