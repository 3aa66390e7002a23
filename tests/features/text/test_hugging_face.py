"""Text towers of transformers: equal to open_clip's, kept in a file, for class texts alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_tokenizers import VOCABULARY, write_tokenizer

from features.encoding.configuration import check_supported
from features.encoding.definition import EncoderSpec
from features.encoding.encoder import Encoder, load_encoder
from features.encoding.text import text_tower_of
from features.encoding.text_support import text_support
from features.errors import InputError
from features.text.classes import encode_classes
from features.text.hugging_face import HuggingFaceTower, load_text_encoder, save_hugging_face
from features.text.text_tower import load_tower

TEXTS = ["a photo of a cat.", "dog", "an image of the extremely long name of a thing."]
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


@pytest.fixture(scope="module", params=KINDS)
def loaded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Encoder, HuggingFaceTower]:
    spec = write_model(tmp_path_factory.mktemp(request.param), request.param)
    check_supported("small", spec)
    encoder = load_encoder("small", spec, "cpu")
    tower = text_tower_of(encoder, spec)
    assert isinstance(tower, HuggingFaceTower)
    return encoder, tower


def test_texts_have_the_features_of_open_clip(loaded: tuple[Encoder, HuggingFaceTower]) -> None:
    encoder, tower = loaded
    model: Any = encoder.model
    padded = torch.full((len(TEXTS), tower.config.context_length), model.text.config.pad_token_id)
    for row, text in zip(padded, TEXTS, strict=True):
        ids = tower.tokenizer.encode(text)
        row[: len(ids)] = torch.tensor(ids)
    theirs = model.encode_text(padded)

    ours = tower.encode(tower.tokenizer.tokenize(TEXTS, room=tower.config.context_length))
    assert ours.shape == (3, 12)
    assert float((ours - theirs).norm() / theirs.norm()) <= 1e-5
    assert float((ours[0] - ours[1]).norm() / theirs.norm()) > 1e-3


def test_a_file_holds_the_tower_for_class_texts_alone(loaded: tuple[Encoder, HuggingFaceTower], tmp_path: Path) -> None:
    encoder, tower = loaded
    save_hugging_face(tower, tmp_path / "a")
    again = load_text_encoder(tmp_path / "a")
    assert isinstance(again, HuggingFaceTower)
    assert again.config == tower.config
    assert again.config.weights_sha256 == encoder.weights_sha256

    texts = encode_classes(["cat", "grand piano"], ["a photo of a {}."], again)
    ids = tower.tokenizer.tokenize(["a photo of a cat."], room=77)
    torch.testing.assert_close(torch.from_numpy(texts.text_features)[0, :1], tower.encode(ids))

    save_hugging_face(again, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(InputError, match="prompts"):
        load_tower(tmp_path / "a")


def test_an_unknown_pooler_is_refused() -> None:
    config = {"embed_dim": 12, "text_cfg": {"hf_model_name": "x", "hf_pooler_type": "new_pooler"}}
    assert "new_pooler" in text_support(config).problems[0]


def test_without_transformers_the_check_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "transformers" else object())
    monkeypatch.setattr(
        "features.encoding.configuration.model_config", lambda _: {"text_cfg": {"hf_model_name": "roberta-base"}}
    )
    with pytest.raises(InputError, match=r"shipyard-clip\[transformers\]"):
        check_supported("x", EncoderSpec(model="roberta-ViT-B-32"))
