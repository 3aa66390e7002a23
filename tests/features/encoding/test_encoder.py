"""Encoders: any model of open_clip, frozen, with its own preprocessing; mistakes are errors before a model is built."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import TINY, picture, tiny_encoder
from project_root import ROOT
from safetensors.torch import save_file

from features.encoding import weights
from features.encoding.augment import Views, centre_crop, fill_crops
from features.encoding.definition import EncoderSpec
from features.encoding.encoder import Encoder, load_encoder, weights_sha256
from features.errors import InputError

LITECLIP = f"local-dir:{ROOT / 'assets' / 'liteclip'}"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return tiny_encoder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def built_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Register the tiny architecture under a name, like open_clip's own ones."""
    import open_clip
    from open_clip import factory

    config = tmp_path_factory.mktemp("configs") / "tiny-clip.json"
    config.write_text(json.dumps(TINY["model_cfg"]), encoding="utf-8")
    open_clip.add_model_config(config)
    yield "tiny-clip"
    factory._MODEL_CONFIG_PATHS.remove(config)
    del factory._MODEL_CONFIGS["tiny-clip"]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a machine without network and cache: requests go to a local port at which nothing listens."""
    monkeypatch.setattr(weights.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(weights, "try_to_load_from_cache", lambda *_: None)


def centres(encoder: Encoder, count: int) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.asarray(centre_crop(picture(n), encoder.preprocess)) for n in range(count)]))


@pytest.mark.parametrize(
    ("model", "pretrained"), [(LITECLIP, None), ("ViT-B-32-quickgelu", "random:0"), ("RN50-quickgelu", "random:0")]
)
def test_features_equal_those_of_open_clip(model: str, pretrained: str | None) -> None:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    encoder = load_encoder("x", EncoderSpec(model=model, pretrained=pretrained), "cpu")
    transform = image_transform_v2(PreprocessCfg(**encoder.model.visual.preprocess_cfg), is_train=False)
    inputs = torch.stack([transform(picture(n)) for n in range(3)])
    assert torch.equal(encoder.normalize(centres(encoder, 3)), inputs)
    with torch.inference_mode():
        expected = encoder.model.encode_image(inputs)
    features = encoder.encode_crops(centres(encoder, 3))
    assert features.shape == (3, encoder.embed_dim)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-4)


def test_an_encoder_is_frozen_float32_with_its_own_preprocessing(tiny: Encoder) -> None:
    assert not tiny.model.training
    assert not any(parameter.requires_grad for parameter in tiny.model.parameters())
    assert {parameter.dtype for parameter in tiny.model.parameters()} == {torch.float32}
    assert (tiny.preprocess.size, tiny.preprocess.mean, tiny.preprocess.std) == (
        (32, 32),
        (0.5, 0.4, 0.3),
        (0.2, 0.3, 0.4),
    )


def test_random_weights_depend_on_their_seed_only(tiny: Encoder, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    assert tiny_encoder(tmp_path).weights_sha256 == tiny.weights_sha256
    assert torch.equal(torch.random.get_rng_state(), state)
    assert tiny_encoder(tmp_path, seed=1).weights_sha256 != tiny.weights_sha256


def test_weights_sha256_does_not_depend_on_the_file_format(tiny: Encoder, built_in: str, tmp_path: Path) -> None:
    tensors = tensors_of(tiny)
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}}, tmp_path / "b.pt")
    for file in ("a.safetensors", "b.pt"):
        loaded = load_encoder("x", EncoderSpec(model=built_in, pretrained=str(tmp_path / file)), "cpu")
        assert loaded.weights_sha256 == tiny.weights_sha256
    changed = torch.nn.Linear(2, 2)
    before = weights_sha256(changed)
    with torch.no_grad():
        changed.weight[0, 0] += 1e-6
    assert weights_sha256(changed) != before


def test_a_folder_with_weights_is_loaded(tiny: Encoder, tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text(json.dumps(TINY), encoding="utf-8")
    save_file(dict(tiny.model.state_dict()), tmp_path / "open_clip_model.safetensors")
    assert load_encoder("x", EncoderSpec(model=f"local-dir:{tmp_path}"), "cpu").weights_sha256 == tiny.weights_sha256


def test_checkpoints_that_contain_code_are_errors(built_in: str, tmp_path: Path) -> None:
    torch.save({"state_dict": Path("x")}, tmp_path / "object.pt")
    with pytest.raises(InputError, match=r"encoders\.x .*pickle"):
        load_encoder("x", EncoderSpec(model=built_in, pretrained=str(tmp_path / "object.pt")), "cpu")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/code/__torch__.py", "")
    with pytest.raises(InputError, match=r"(?s)script\.pt.*TorchScript.*safetensors"):
        load_encoder("x", EncoderSpec(model=built_in, pretrained=str(tmp_path / "script.pt")), "cpu")


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 605\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>Not Found</html>", "web page"),
        (b"", "empty"),
    ],
)
def test_what_stands_in_place_of_weights_is_named(
    content: bytes, words: str, suffix: str, built_in: str, tmp_path: Path
) -> None:
    (tmp_path / f"weights.{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=rf"(?s)encoders\.x .*weights\.{suffix}.*{words}"):
        load_encoder("x", EncoderSpec(model=built_in, pretrained=str(tmp_path / f"weights.{suffix}")), "cpu")


def test_weights_of_another_architecture_are_errors(tiny: Encoder, built_in: str, tmp_path: Path) -> None:
    tensors = tensors_of(tiny)
    tensors["visual.proj"] = torch.zeros(3, 3)
    del tensors["visual.conv1.weight"]
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"(?s)encoders\.x .*visual.conv1.weight.*visual.proj"):
        load_encoder("x", EncoderSpec(model=built_in, pretrained=str(tmp_path / "other.safetensors")), "cpu")
    (tmp_path / "cut.safetensors").write_bytes(b"\0" * 7)
    with pytest.raises(InputError, match=r"encoders\.x .*cut\.safetensors"):
        load_encoder("x", EncoderSpec(model=built_in, pretrained=str(tmp_path / "cut.safetensors")), "cpu")


def tensors_of(encoder: Encoder) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in encoder.model.state_dict().items()}


MISTAKES = [
    ("ViT-B-17", "openai", r"'ViT-B-17'.*'ViT-B-16'"),
    ("ViT-B-16", None, r"`pretrained`.*openai"),
    ("ViT-B-16-quickgelu", "opnai", r"'opnai'.*'openai'"),
    ("ViT-B-16-quickgelu", "laion2b_s34b_b88k", r"'ViT-B-16'"),
    ("ViT-B-16", "openai", r"model: ViT-B-16-quickgelu"),
    ("RN50", "openai", r"model: RN50-quickgelu"),
    ("ViT-B-16", "weights/none.safetensors", r"file weights/none\.safetensors"),
    ("ViT-B-16", "random:one", r"'one'.*random:0"),
    ("local-dir:nowhere", None, r"nowhere/open_clip_config\.json"),
    (LITECLIP, "openai", r"remove `pretrained`"),
]


@pytest.mark.parametrize(("model", "pretrained", "datum"), MISTAKES, ids=[f"{row[0]}:{row[1]}" for row in MISTAKES])
def test_wrong_settings_are_errors_that_name_the_fix(model: str, pretrained: str | None, datum: str) -> None:
    with pytest.raises(InputError, match=rf"encoders\.mine .*{datum}"):
        load_encoder("mine", EncoderSpec(model=model, pretrained=pretrained), "cpu")


def test_a_folder_without_weights_is_not_filled_at_random(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text(json.dumps(TINY), encoding="utf-8")
    with pytest.raises(InputError, match=r"\*\.safetensors"):
        load_encoder("x", EncoderSpec(model=f"local-dir:{tmp_path}"), "cpu")


@pytest.mark.parametrize(
    ("model", "tag", "file"),
    [
        ("ViT-B-16-quickgelu", "openai", "open_clip_model.safetensors or open_clip_pytorch_model.bin"),
        ("ViT-B-16", "laion2b_s34b_b88k", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"),
    ],
)
def test_missing_weights_without_a_network_are_an_error_within_seconds(
    model: str, tag: str, file: str, offline: None
) -> None:
    import open_clip  # noqa: F401 (takes seconds the first time, which are no part of waiting for a network)

    began = time.monotonic()
    with pytest.raises(InputError) as caught:
        load_encoder("mine", EncoderSpec(model=model, pretrained=tag), "cpu")
    assert time.monotonic() - began < 5
    message = str(caught.value)
    for part in (model, tag, file, "Connection refused", "params.yaml: encoders.mine.weights", "HF_HOME"):
        assert part in message


def test_a_missing_repository_without_a_network_is_an_error(
    offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "snapshot_download", no_snapshot)
    with pytest.raises(InputError, match=r"some/repository.*model: 'local-dir:"):
        load_encoder("x", EncoderSpec(model="hf-hub:some/repository"), "cpu")


def no_snapshot(repository: str, local_files_only: bool, allow_patterns: list[str]) -> str:
    assert local_files_only
    raise FileNotFoundError(repository)


def test_hf_hub_offline_is_respected(monkeypatch: pytest.MonkeyPatch, offline: None) -> None:
    monkeypatch.setattr(weights.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE"):
        load_encoder("x", EncoderSpec(model="ViT-B-16-quickgelu", pretrained="openai"), "cpu")


def test_cached_weights_need_no_network(
    built_in: str, tiny: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from open_clip import pretrained

    save_file(tensors_of(tiny), tmp_path / "open_clip_model.safetensors")
    tag = {"hf_hub": "someone/tiny/", "url": "", "mean": (0.1, 0.2, 0.3), "interpolation": "bilinear"}
    monkeypatch.setitem(pretrained._PRETRAINED, built_in, {"mine": tag})
    monkeypatch.setattr(weights, "try_to_load_from_cache", lambda _, file: str(tmp_path / file))
    loaded = load_encoder("x", EncoderSpec(model=built_in, pretrained="mine"), "cpu")
    assert loaded.weights_sha256 == tiny.weights_sha256
    assert (loaded.preprocess.mean, loaded.preprocess.interpolation) == ((0.1, 0.2, 0.3), "bilinear")
    assert loaded.preprocess.size == (32, 32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: compares it with the CPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_gpu_agrees_with_cpu(precision: str) -> None:
    features = []
    for device in ("cpu", "cuda"):
        encoder = load_encoder("x", EncoderSpec(model=LITECLIP), device)
        out = np.zeros((3, 224, 224, 3), np.uint8)
        fill_crops(picture(1), "1.png", encoder.preprocess, Views(2, (0.5, 1.0), 0), out)
        encoded = encoder.encode_crops(torch.from_numpy(out), precision if device == "cuda" else "float32")  # type: ignore[arg-type]
        features.append(encoded.cpu())
    assert torch.cosine_similarity(*features).min() >= 0.999
