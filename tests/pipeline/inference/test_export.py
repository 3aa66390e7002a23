"""Tests of `shipyard export`: an exported file gives the results of the pipeline without this project."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trained
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from typer.testing import CliRunner

import pipeline.methods
from features.errors import InputError
from features.formats.tensors import read_tensors
from features.lookup import find, names
from pipeline.cli.app import app
from pipeline.inference.export import FORMATS, export, metadata
from pipeline.methods.base import Classifier, LinearClassifier, Method

ORT = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
FOUND = {name: find(pipeline.methods, name, Method) for name in names(pipeline.methods)}
# One method of each kind of classifier, so that a new kind is exported the day that it is added.
KINDS: dict[type[Classifier], str] = {
    method.classifier: name
    for name, method in reversed(FOUND.items())
    if not (method.scores_with_text_tower or method.needs_patches)
}
KINDS[LinearClassifier] = "zero_shot"
# Exporting takes seconds a kind, so by default only two kinds are exported to ONNX and TorchScript.
EXPORTED = [*KINDS.values()][:2] + [pytest.param(name, marks=pytest.mark.system) for name in [*KINDS.values()][2:]]
CROPS = torch.randint(0, 256, (100, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
PIXELS = CROPS.permute(0, 3, 1, 2).float() / 255


def differences(
    outputs: tuple[Tensor | NDArray[np.float32], ...], logits: Tensor, probabilities: Tensor
) -> list[float]:
    pairs = zip(outputs, (logits, probabilities), strict=True)
    return [float((torch.as_tensor(ours) - theirs).abs().max()) for ours, theirs in pairs]


@pytest.mark.parametrize("method", EXPORTED)
def test_onnx_and_torchscript_give_the_results_of_the_pipeline(method: str, tmp_path: Path) -> None:
    model = trained.model(tmp_path / "encoder", method)
    logits = model.logits(CROPS)
    probabilities = model.probabilities(CROPS)

    export(model, "onnx", tmp_path / "m.onnx")
    session = ORT.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    outputs = session.run(["logits", "probabilities"], {"pixels": PIXELS.numpy()})
    assert max(differences(outputs, logits, probabilities)) < 1e-4
    exported = json.loads(session.get_modelmeta().custom_metadata_map["shipyard"])
    assert exported == json.loads(json.dumps(metadata(model)))
    assert exported["classes"] == list(trained.NAMES)
    assert exported["preprocess"]["size"] == [32, 32]

    export(model, "torchscript", tmp_path / "m.pt")
    files = {"shipyard.json": ""}
    with pytest.warns(FutureWarning, match="torch.jit.load"):
        loaded = torch.jit.load(tmp_path / "m.pt", _extra_files=files)
    with torch.inference_mode():
        assert max(differences(loaded(PIXELS), logits, probabilities)) < 1e-4
    assert json.loads(files["shipyard.json"]) == exported


@pytest.mark.parametrize("method", KINDS.values())
def test_open_clip_weights_need_a_linear_classifier(method: str, tmp_path: Path) -> None:
    model = trained.model(tmp_path / "encoder", method)
    if not issubclass(FOUND[method].classifier, LinearClassifier):
        with pytest.raises(InputError, match=r"open_clip.*onnx"):
            export(model, "open_clip", tmp_path / "w.safetensors")
        assert not (tmp_path / "w.safetensors").exists()
        return
    export(model, "open_clip", tmp_path / "w.safetensors")
    tensors, facts = read_tensors(tmp_path / "w.safetensors")
    weights = tensors["classifier"]
    assert weights.shape == (trained.D, len(trained.NAMES))
    features = F.normalize(model.encoder.encode_crops(CROPS), dim=-1)
    scale = model.encoder.model.logit_scale.exp()
    # Half of the model's logits, whose temperature is 0.5; the offset of seen classes is the bias.
    logits = scale * features @ weights + tensors["bias"]
    torch.testing.assert_close(logits, 0.5 * model.logits(CROPS), atol=1e-4, rtol=0)
    assert tensors["bias"].tolist() == [-trained.OFFSET] * 3 + [0.0]

    export(replace(model, offset=0.0), "open_clip", tmp_path / "plain.safetensors")
    plain, _ = read_tensors(tmp_path / "plain.safetensors")
    assert list(plain) == ["classifier"]
    torch.testing.assert_close(
        scale * features @ weights, 0.5 * replace(model, offset=0.0).logits(CROPS), atol=1e-4, rtol=0
    )
    assert json.loads(facts["shipyard"])["classes"] == list(trained.NAMES)


def test_safetensors_have_the_tensors_of_the_tower_and_the_classifier(tmp_path: Path) -> None:
    model = trained.model(tmp_path / "encoder", "zero_shot")
    export(model, "safetensors", tmp_path / "m.safetensors")
    tensors, _ = read_tensors(tmp_path / "m.safetensors")
    tower = model.encoder.model.visual.state_dict()
    state = model.classifier.state()
    names = {f"visual.{name}" for name in tower} | {f"classifier.{name}" for name in state}
    assert {*tensors} == names | {"offsets"}
    assert tensors["offsets"].tolist() == [trained.OFFSET] * 3 + [0.0]
    assert torch.equal(tensors["classifier.weights"], state["weights"])


def test_a_classifier_that_needs_more_than_features_is_rejected_with_the_reason(tmp_path: Path) -> None:
    model = trained.model(tmp_path / "encoder", "zero_shot")
    reading = next(method for method in FOUND.values() if method.scores_with_text_tower)
    classifier = object.__new__(reading.classifier)
    other = replace(model, classifier=classifier)
    with pytest.raises(InputError, match=r"text tower.*onnx.*--to safetensors"):
        export(other, "onnx", tmp_path / "m.onnx")
    with pytest.raises(InputError, match=r"patch tokens.*torchscript.*--to safetensors"):
        export(replace(model, reads_patches=True), "torchscript", tmp_path / "m.pt")


def test_the_command_prints_what_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained.project(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["export", "mine", "--to", "open_clip", "--out", "w.safetensors"])
    assert result.output.startswith("w.safetensors: open_clip, ")
    assert CliRunner().invoke(app, ["export", "mine", "--to", "pickle", "--out", "x"]).exit_code == 2
    assert "open_clip" in FORMATS
