"""Text towers of transformers: what a configuration must say, and what the encoder's definition needs.

`test_towers` compares their features with open_clip's.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import small_hugging_face
import torch

from features.encoding.configuration import check_supported
from features.encoding.definition import EncoderSpec
from features.encoding.encoder import load_encoder
from features.encoding.text import text_tower_of
from features.encoding.text_support import text_support
from features.errors import InputError
from features.text.classes import encode_classes
from features.text.tower_file import load_tower, save_tower, tower_weights


def test_a_tower_is_taken_out_of_its_encoder_and_kept_in_a_file(tmp_path: Path) -> None:
    spec = small_hugging_face.write_model(tmp_path, "nllb")
    check_supported("small", spec)
    encoder = load_encoder("small", spec, "cpu")
    tower = text_tower_of(encoder, spec)
    save_tower(tower, tmp_path / "tower")
    again = load_tower(tmp_path / "tower")
    assert again.config == tower.config
    assert again.config.weights_sha256 == tower_weights(tmp_path / "tower") == encoder.weights_sha256

    texts = encode_classes(["cat", "grand piano"], ["a photo of a {}."], again)
    ids = tower.tokenizer.tokenize(["a photo of a cat."], room=77)
    torch.testing.assert_close(torch.from_numpy(texts.text_features)[0, :1], tower.encode(ids))


@pytest.mark.parametrize("pooler", ["new_pooler", "max_pooler"])
def test_a_pooler_that_is_unknown_or_fails_in_open_clip_is_refused(pooler: str) -> None:
    config = {"embed_dim": 12, "text_cfg": {"hf_model_name": "x", "hf_pooler_type": pooler}}
    assert pooler in text_support(config).problems[0]


def test_without_transformers_the_check_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "transformers" else object())
    monkeypatch.setattr(
        "features.encoding.configuration.model_config", lambda _: {"text_cfg": {"hf_model_name": "roberta-base"}}
    )
    with pytest.raises(InputError, match=r"\.\[transformers\]"):
        check_supported("x", EncoderSpec(model="roberta-ViT-B-32"))
