"""What `check` says about an encoder by its configuration alone, before anything is fetched or extracted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from project_root import ROOT
from small_tokenizers import write_tokenizer

from features.datasets.base import Origin
from features.encoding.definition import EncoderSpec
from features.errors import InputError
from features.index import ClassNames
from pipeline.cli.check import Blocks, check, learners
from pipeline.cli.check_encoder import prompt_room
from pipeline.config.params import Params, parse_text

SHIPPED = (ROOT / "params.yaml").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a folder without artifacts."""
    monkeypatch.chdir(tmp_path)


def of(model: str, pretrained: str | None = None, methods: list[str] | None = None, **more: Any) -> Params:
    """Return the shipped parameters with another encoder."""
    given = {"model": model, "pretrained": pretrained, **more}
    encoder = EncoderSpec.model_validate({key: value for key, value in given.items() if value is not None})
    params = parse_text(SHIPPED)
    grid = params.grid.model_copy(update={"encoder": "vit_b16", "methods": methods or params.grid.methods})
    return params.model_copy(update={"encoders": {**params.encoders, "vit_b16": encoder}, "grid": grid})


@pytest.mark.parametrize(
    ("model", "pretrained"),
    [
        ("ViT-B-16-SigLIP2", "webli"),
        ("ViT-L-14-CLIPA", "datacomp1b"),
        ("MobileCLIP2-S0", "dfndr2b"),
        ("ViT-H-14-worldwide-quickgelu", "metaclip2_worldwide"),
        ("coca_ViT-B-32", "laion2b_s13b_b90k"),
        ("PE-Core-B-16", "meta"),
        ("RN50-quickgelu", "openai"),
        ("ViT-L-14-336-quickgelu", "random:0"),
    ],
)
def test_the_default_grid_runs_with_every_kind_of_text_tower_of_open_clip(model: str, pretrained: str) -> None:
    check(of(model, pretrained))


@pytest.mark.parametrize(
    "model", ["roberta-ViT-B-32", "xlm-roberta-base-ViT-B-32", "mt5-base-ViT-B-32", "nllb-clip-base"]
)
def test_text_towers_of_hugging_face_run_the_default_grid(model: str) -> None:
    check(of(model, "random:0"))
    with pytest.raises(InputError, match=r"grid\.methods: tcp .*Hugging Face"):
        check(of(model, "random:0", ["zero_shot", "coop", "tcp"]))


@pytest.mark.parametrize(
    ("model", "pretrained", "datum"),
    [
        ("ViT-B-17", "openai", "'ViT-B-16'"),
        ("ViT-B-16", "opnai", "'openai'|laion"),
        ("ViT-B-16", "openai", "ViT-B-16-quickgelu"),
        ("local-dir:nowhere", None, "nowhere"),
        ("ViT-B-16", "none.safetensors", "none.safetensors"),
    ],
)
def test_mistakes_of_a_definition_are_found(model: str, pretrained: str | None, datum: str) -> None:
    with pytest.raises(InputError, match=datum):
        check(of(model, pretrained))


@pytest.mark.parametrize(
    ("part", "values", "reason"),
    [
        ("vision_cfg", {"timm_model_name": "naflexvit_base_patch16_siglip"}, "NaFlex"),
        ("text_cfg", {"qk_norm": True}, "qk_norm"),
        ("text_cfg", {"pool_type": "first"}, "pool_type"),
        ("text_cfg", {"ls_init_value": 1e-5}, "ls_init_value"),
        ("text_cfg", {"tokenizer_mode": "clips"}, "tokenizer_mode"),
        ("text_cfg", {"tokenizer_kwargs": {"language": "de"}}, "language"),
    ],
)
def test_settings_that_cannot_be_honoured_are_named(part: str, values: dict[str, Any], reason: str) -> None:
    config: dict[str, Any] = {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}}
    config[part] |= values
    Path("open_clip_config.json").write_text(json.dumps({"model_cfg": config}), encoding="utf-8")
    with pytest.raises(InputError, match=reason):
        check(of("local-dir:.", "random:0"))


def test_a_method_that_cannot_learn_prompts_of_a_tower_is_refused_and_the_others_are_not() -> None:
    check(of("ViT-B-16", "random:0", ["zero_shot", "tcp"]))
    with pytest.raises(InputError, match=r"tcp.*bidirectional"):
        check(of("MobileCLIP2-S0", "random:0", ["zero_shot", "coop", "tcp"]))


NAMES = ClassNames(
    classes=("cat", "very " * 20 + "rare bird", "a b c d e f g h i j k l m n o p q r s t u"),
    templates=("{}.",),
    origin=Origin("x", "x", "x", "x"),
    missing=0,
    descriptions={},
)


def room(params: Params, names: ClassNames = NAMES) -> str:
    return "\n".join(prompt_room(params, "twemoji", names, *learners(params, "twemoji", Blocks())))


def test_all_class_names_that_leave_no_room_for_learned_vectors_are_named() -> None:
    params = of("PE-Core-B-16", "meta", ["zero_shot", "coop", "proda"])
    proda = params.model_copy(update={"methods": {**params.methods, "proda": {"context": 16}, "coop": {"context": 4}}})
    found = room(proda).splitlines()
    assert [("proda" in line, "coop" in line) for line in found] == [(True, False)]
    assert "rare bird" in found[0]
    assert "'a b c" in found[0]
    assert "'cat" not in found[0]
    assert "16" in found[0]


def test_methods_without_learned_prompts_need_no_room() -> None:
    params = of("PE-Core-B-16", "meta", ["zero_shot", "linear_probe"])
    grid = params.grid.model_copy(update={"generators": [], "synthetic_methods": []})
    assert room(params.model_copy(update={"grid": grid})) == ""
    long = ClassNames(("very " * 40,), ("a photo of {}.",), NAMES.origin, 0, {})
    assert "very very" in room(params.model_copy(update={"grid": grid}), long)


def test_the_room_is_counted_in_the_tokens_of_the_encoder(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "tokenizer", "siglip")
    params = of("ViT-B-16-SigLIP", "webli", ["zero_shot", "coop"], tokenizer="tokenizer")
    letters = ClassNames(("joshua tree windsor chair", "k" * 70), ("{}",), NAMES.origin, 0, {})
    assert "'kkk" in room(params, letters)
    assert "windsor" not in room(params, letters)
