"""The stages of the default methods with each kind of text tower, with small random weights of its architecture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pictures import picture
from project_root import ROOT
from small_repo import ENCODER, PARAMS, run_stages, write_params
from small_tokenizers import VOCABULARY, write_tokenizer
from torch.nn import functional as F

from features.image_store.store import ImageStore
from features.text.classes import load_classes
from features.text.tower_file import load_tower
from pipeline.artifacts.paths import EncoderPaths
from pipeline.cli.check import check
from pipeline.config.params import load
from pipeline.report.build import read_grid

METHODS = ["zero_shot", "coop", "clip_adapter", "tip_adapter", "tip_adapter_f"]

SIGLIP2 = {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"clean": "canonicalize"}, "context_length": 64}
SIGLIP2 |= {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "act_kwargs": {"approximate": "tanh"}}
METACLIP2 = {"hf_tokenizer_name": "x", "pool_type": "eos", "eos_id": 2}
COCA = {"embed_cls": True, "output_tokens": True, "context_length": 76}

# The settings that make a kind -> those of the text tower, those of the model, and its tokenizer.
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], str | None]] = {
    "siglip2": (SIGLIP2, {"init_logit_bias": -10, "custom_text": True}, "siglip2"),
    "mobileclip2": ({"no_causal_mask": True}, {"custom_text": True}, None),
    "metaclip2": (METACLIP2, {}, "xlm"),
    "coca": (COCA, {"custom_text": True, "multimodal_cfg": {"width": 32, "heads": 2, "layers": 1}}, None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_methods_run(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, model, tokenizer = KINDS[kind]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    cfg: dict[str, Any] = {**ENCODER["model_cfg"], **model}
    cfg["text_cfg"] = {**cfg["text_cfg"], **text}
    if kind == "coca":
        cfg["vision_cfg"] = {**cfg["vision_cfg"], "output_tokens": True}
    (tmp_path / "encoder").mkdir()
    if tokenizer is not None:
        write_tokenizer(tmp_path / "encoder", tokenizer)
        cfg["text_cfg"]["vocab_size"] = VOCABULARY + 10
    content = {**ENCODER, "model_cfg": cfg}
    (tmp_path / "encoder/open_clip_config.json").write_text(json.dumps(content), encoding="utf-8")

    number = 0
    for split, count in {"train": 2, "val": 1, "test": 2}.items():
        for name in ("cat", "sea horse", "kite", "drum"):
            for i in range(count):
                file = tmp_path / f"data/mine/{split}/{name}/{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                picture(number).save(file)
                number += 1
    grid = {"methods": METHODS, "synthetic_methods": ["coop"], "seeds": [1]}
    methods = {**PARAMS["methods"], "clip_adapter": {"epochs": 1}, "tip_adapter_f": {"epochs": 1}}
    sets = {"mine": {"reader": "image_folder", "path": "mine", "splits": "folders"}}
    write_params(
        tmp_path,
        {**PARAMS, "grid": {**PARAMS["grid"], **grid}, "methods": methods, "data": {"root": "data", "sets": sets}},
    )

    check(load())
    run_stages(load())
    assert {scores.run for scores in read_grid(load())} == {*METHODS, "coop+ship"}

    if kind == "siglip2":
        _assert_best_class_is_that_of_the_sigmoid(EncoderPaths(load().artifacts))


def _assert_best_class_is_that_of_the_sigmoid(of_encoder: EncoderPaths) -> None:
    """The bias is the same for all classes, so it changes neither the best class nor a softmax."""
    tower = load_tower(of_encoder.text_tower)
    assert tower.config.logit_bias == -10
    features = torch.from_numpy(ImageStore.open(of_encoder.features("mine")).load("test").features[:, 0]).float()
    weights = torch.from_numpy(load_classes(of_encoder.classes("mine")).zero_shot_weights())
    ours = tower.config.logit_scale * F.normalize(features, dim=-1) @ weights.T
    theirs = torch.sigmoid(ours.double() + tower.config.logit_bias)
    assert torch.equal(theirs.argmax(1), ours.argmax(1))
    torch.testing.assert_close((ours + tower.config.logit_bias).softmax(-1), ours.softmax(-1))
