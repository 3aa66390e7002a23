"""Tests of `shipyard export` with LiteCLIP: exported files give the pipeline's results on 100 photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from project_root import ROOT
from torch import Tensor
from torch.nn import functional as F

from features.encoding.augment import fill_crops
from features.encoding.definition import EncoderSpec
from features.encoding.encoder import Encoder, load_encoder
from features.encoding.images import Reading, read_image
from features.encoding.open_clip_text import from_open_clip
from features.formats.tensors import read_tensors
from features.text.classes import encode_classes
from pipeline.inference.export import Format, export
from pipeline.inference.predict import CENTRE, Model
from pipeline.methods.base import FitData
from pipeline.methods.clip_adapter import ClipAdapter
from pipeline.methods.zero_shot import ZeroShot
from pipeline.training.data import ClassSet, LabelledFeatures
from pipeline.training.seeds import stream

EACH, PASS = 10, 20  # photographs of each of ten classes, and how many go through a file at a time
CLOSE = 1e-4


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("liteclip", EncoderSpec(model=f"local-dir:{ROOT / 'assets/liteclip'}"), torch.device("cpu"))


@pytest.fixture(scope="module")
def photographs(shared: Path, encoder: Encoder) -> dict[str, Tensor]:
    """Class name -> crops (EACH, height, width, 3)."""
    by_class = {}
    for folder in sorted(folder for folder in (shared / "data/textures-10").iterdir() if folder.is_dir()):
        pixels = np.empty((EACH, 1, *encoder.preprocess.size, 3), np.uint8)
        for file, out in zip(sorted(folder.iterdir()), pixels, strict=False):
            fill_crops(read_image(file), str(file), encoder.preprocess, CENTRE, out)
        by_class[folder.name] = torch.from_numpy(pixels[:, 0])
    return by_class


@pytest.fixture(scope="module")
def pixels(photographs: dict[str, Tensor]) -> Tensor:
    """(100, height, width, 3) uint8."""
    return torch.cat(list(photographs.values()))


@pytest.fixture(scope="module")
def models(encoder: Encoder, photographs: dict[str, Tensor], pixels: Tensor) -> dict[str, Model]:
    """A linear classifier and one that is not, of the photographs' own classes, at a temperature."""
    texts = encode_classes([*photographs], ["{} texture."], from_open_clip(encoder.model, "liteclip", "0" * 64))
    classes = ClassSet(
        names=texts.names,
        seen=torch.ones(len(texts.names), dtype=torch.bool),
        text_features=torch.from_numpy(texts.zero_shot_weights()),
        text_norms=torch.from_numpy(texts.text_norms()),
        tokens=torch.from_numpy(texts.tokens),
        logit_scale=texts.logit_scale,
    )
    features = torch.cat([encoder.encode_crops(part) for part in torch.split(pixels, PASS)])
    train = LabelledFeatures(features[:, None], torch.arange(len(classes)).repeat_interleave(EACH))
    none = LabelledFeatures(train.features[:0], train.labels[:0])
    given = {"synthetic": None, "validation": none, "tower": None}
    return {
        method: Model(
            task="textures",
            run=method,
            seed=1,
            encoder=encoder,
            precision="float32",
            classifier=settings.fit(FitData(train, classes, rng=stream(1, "test"), **given)),
            reads_patches=False,
            names=texts.names,
            seen=(True,) * len(classes),
            temperature=0.5,
            reading=Reading(upright=True),
        )
        for method, settings in {"zero_shot": ZeroShot(), "clip_adapter": ClipAdapter(epochs=20)}.items()
    }


def differences(model: Model, pixels: Tensor, outputs: tuple[Tensor, Tensor]) -> list[float]:
    logits = torch.cat([model.logits(part) for part in torch.split(pixels, PASS)])
    pairs = zip(outputs, (logits, logits.softmax(1)), strict=True)
    return [float((ours - theirs).abs().max()) for ours, theirs in pairs]


def images(pixels: Tensor) -> tuple[Tensor, ...]:
    """As the exported files take them: (PASS, 3, height, width) float32 in [0, 1]."""
    return torch.split(pixels.permute(0, 3, 1, 2).float() / 255, PASS)


def run(to: Format, path: Path, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits and probabilities of the exported file."""
    if to == "onnx":
        session = pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
        parts = [session.run(["logits", "probabilities"], {"pixels": part.numpy()}) for part in images(pixels)]
    else:
        with pytest.warns(FutureWarning, match="torch.jit.load"):
            module = torch.jit.load(path)
        with torch.inference_mode():
            parts = [module(part) for part in images(pixels)]
    logits, probabilities = zip(*parts, strict=True)
    return torch.cat([torch.as_tensor(x) for x in logits]), torch.cat([torch.as_tensor(x) for x in probabilities])


@pytest.mark.parametrize("to", [pytest.param("onnx", marks=pytest.mark.system), "torchscript"])
def test_an_exported_file_gives_the_results_of_the_pipeline(
    to: Format, models: dict[str, Model], pixels: Tensor, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    assert len(pixels) >= 100
    export(models["clip_adapter"], to, tmp_path / "file")
    assert max(differences(models["clip_adapter"], pixels, run(to, tmp_path / "file", pixels))) < CLOSE


def test_open_clips_zero_shot_evaluation_accepts_the_exported_weights(
    encoder: Encoder, models: dict[str, Model], pixels: Tensor, tmp_path: Path
) -> None:
    """Its code is `100 * image_features @ classifier`; another logit scale than 100 does not change the order."""
    export(models["zero_shot"], "open_clip", tmp_path / "weights.safetensors")
    weights = read_tensors(tmp_path / "weights.safetensors")[0]["classifier"]
    features = torch.cat([F.normalize(encoder.encode_crops(part), dim=-1) for part in torch.split(pixels, PASS)])
    logits = 100.0 * features @ weights
    ours = torch.cat([models["zero_shot"].logits(part) for part in torch.split(pixels, PASS)])
    scale = encoder.model.logit_scale.exp()  # type: ignore[operator]
    torch.testing.assert_close(logits * scale / 100 / 0.5, ours, atol=CLOSE, rtol=1e-5)
