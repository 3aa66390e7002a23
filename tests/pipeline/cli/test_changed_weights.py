"""Weights of one's own that change in place are found before their old results are taken for current ones."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from pictures import TINY
from project_root import ROOT
from safetensors.torch import save_file

from features.encoding import encoder
from features.encoding.definition import EncoderSpec
from features.encoding.encoder import load_encoder
from features.encoding.text import text_tower_of
from features.errors import InputError
from features.text.tower_file import save_tower
from pipeline.artifacts.paths import EncoderPaths
from pipeline.cli.changed_weights import check_weights
from pipeline.config.params import Params

WEIGHTS = Path("encoder/open_clip_model.safetensors")


def write_weights(seed: int) -> None:
    """Write random weights, later than those before."""
    random = EncoderSpec(model="local-dir:encoder", pretrained=f"random:{seed}")
    save_file(load_encoder("tiny", random, "cpu").model.state_dict(), WEIGHTS)
    later = WEIGHTS.stat().st_mtime + seed
    os.utime(WEIGHTS, (later, later))


def lock(definition: dict[str, Any]) -> None:
    """Record that the text tower was made by a definition."""
    stage = {"cmd": "x", "params": {"params.yaml": {"encoders.tiny": definition}}}
    values = {"schema": "2.0", "stages": {"text_tower": stage}}
    Path("dvc.lock").write_text(yaml.safe_dump(values), encoding="utf-8")


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Settings of an encoder in a folder of one's own, whose text tower is there and up to date."""
    monkeypatch.chdir(tmp_path)
    WEIGHTS.parent.mkdir()
    (WEIGHTS.parent / "open_clip_config.json").write_text(json.dumps(TINY), encoding="utf-8")
    write_weights(1)

    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["encoders"] = {"tiny": {"model": "local-dir:encoder"}}
    values["grid"]["encoder"] = "tiny"
    settings = Params.model_validate(values)
    made = load_encoder("tiny", settings.encoder, "cpu")
    save_tower(text_tower_of(made, settings.encoder), EncoderPaths(settings.artifacts).text_tower)
    lock({"model": "local-dir:encoder"})
    return settings


def test_weights_as_they_were_pass_and_are_loaded_once(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    check_weights(params)
    monkeypatch.delattr(encoder, "load_encoder")
    check_weights(params)


def test_the_same_weights_in_a_newer_file_pass(params: Params) -> None:
    check_weights(params)
    os.utime(WEIGHTS, (1, 1))
    check_weights(params)


@pytest.mark.parametrize("compared_before", [False, True])
def test_other_weights_are_refused_with_both_identities(params: Params, compared_before: bool) -> None:
    if compared_before:
        check_weights(params)
    old = load_encoder("tiny", params.encoder, "cpu").weights_sha256
    write_weights(2)
    new = load_encoder("tiny", params.encoder, "cpu").weights_sha256
    for _ in range(2):  # a refusal is not recorded
        with pytest.raises(InputError, match=f"(?s)encoders.tiny.*{new}.*{old}"):
            check_weights(params)


def test_a_changed_definition_is_left_to_dvc_which_runs_the_stages_again(params: Params) -> None:
    write_weights(2)
    lock({"model": "local-dir:another"})
    check_weights(params)


def test_a_machine_without_the_weights_passes(params: Params) -> None:
    WEIGHTS.unlink()
    (WEIGHTS.parent / "open_clip_config.json").unlink()
    WEIGHTS.parent.rmdir()
    check_weights(params)


def test_without_a_text_tower_nothing_is_compared(params: Params) -> None:
    EncoderPaths(params.artifacts).text_tower.unlink()
    write_weights(2)
    check_weights(params)
