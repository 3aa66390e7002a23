"""One set of weights by a tag, a copy of its file, a folder and converted TorchScript: the same encoder everywhere."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_scores import made_params
from pictures import TINY, picture
from safetensors.torch import save_file
from small_tokenizers import write_tokenizer
from torch import Tensor, nn

from features.encoding import weights
from features.encoding.augment import centre_crop
from features.encoding.configuration import locate_tokenizer
from features.encoding.definition import EncoderSpec, PreprocessSpec
from features.encoding.encoder import Encoder, load_encoder
from features.encoding.weights import locate
from features.errors import InputError
from features.text.tokenizer import CLIP, ClipTokenizer, JsonTokenizer
from pipeline.artifacts.scores import EncoderId, Scores, SeedScores, SplitScore
from pipeline.report import published
from pipeline.report.published import ENCODERS, Identity, find_published, identify

MODEL, REPOSITORY, FILE = "tiny-mobile", "someone/tiny-mobile", "open_clip_model.safetensors"
RN101 = ENCODERS[1]
# As MobileCLIP's: none of these is open_clip's default.
TAG = {"hf_hub": f"{REPOSITORY}/", "url": "", "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
TAG |= {"interpolation": "bilinear", "resize_mode": "squash"}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Register a small architecture with two tags, whose preprocessing differs, and an empty cache; no network."""
    import open_clip
    from open_clip import factory, pretrained

    config = tmp_path / f"{MODEL}.json"
    config.write_text(json.dumps(TINY["model_cfg"]), encoding="utf-8")
    open_clip.add_model_config(config)
    other = {**TAG, "hf_hub": "someone/else/", "resize_mode": "shortest"}
    monkeypatch.setitem(pretrained._PRETRAINED, MODEL, {"mobile": TAG, "other": other})
    monkeypatch.setattr(weights.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(weights.constants, "ENDPOINT", "http://127.0.0.1:9")
    yield MODEL
    factory._MODEL_CONFIG_PATHS.remove(config)
    del factory._MODEL_CONFIGS[MODEL]


@pytest.fixture
def tensors(model: str) -> dict[str, Tensor]:
    import open_clip

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built = open_clip.create_model(model)
    # OpenAI's archives hold batch norms' counters, too; here every weight differs from its default.
    return {
        name: tensor + 0.01 if tensor.is_floating_point() else tensor for name, tensor in built.state_dict().items()
    }


def cached(folder: Path, repository: str, file: str, content: bytes) -> None:
    """Lay a file into a hub cache by hand."""
    root = folder / "hub" / f"models--{repository.replace('/', '--')}"
    (root / "snapshots/1").mkdir(parents=True, exist_ok=True)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs/main").write_text("1", encoding="utf-8")
    (root / "snapshots/1" / file).write_bytes(content)


def features(encoder: Encoder) -> Tensor:
    crops = np.stack([np.asarray(centre_crop(picture(n), encoder.preprocess)) for n in range(3)])
    return encoder.encode_crops(torch.from_numpy(crops))


class Archive(nn.Module):
    """What OpenAI publishes: the weights, and three numbers beside them."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            module: nn.Module = self
            *path, last = name.split(".")
            for part in path:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module._modules[part]  # type: ignore[assignment]
            module.register_buffer(last, tensor)
        for number in ("input_resolution", "context_length", "vocab_size"):
            self.register_buffer(number, torch.tensor(7))

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_a_tag_its_file_a_folder_and_converted_torchscript_are_one_encoder(
    model: str, tensors: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "copy.safetensors")
    cached(tmp_path, REPOSITORY, FILE, (tmp_path / "copy.safetensors").read_bytes())

    folder = tmp_path / "folder"
    folder.mkdir()
    preprocess = {key: TAG[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    config = {"model_cfg": TINY["model_cfg"], "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / FILE).write_bytes((tmp_path / "copy.safetensors").read_bytes())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.script(Archive(tensors)).save(str(tmp_path / "archive.pt"))
    by_archive = EncoderSpec(model=model, pretrained="mobile", weights=str(tmp_path / "archive.pt"))
    with pytest.raises(InputError, match="TorchScript") as caught:
        locate("x", by_archive)
    (command,) = re.findall(r"^  python (-c .*)$", str(caught.value), re.MULTILINE)
    subprocess.run(["python", "-W", "ignore", *shlex.split(command)], cwd=tmp_path, check=True)

    specs = {
        "tag": EncoderSpec(model=model, pretrained="mobile"),
        "copy": EncoderSpec(model=model, pretrained="mobile", weights=str(tmp_path / "copy.safetensors")),
        "archive": EncoderSpec(model=model, pretrained="mobile", weights=str(tmp_path / "archive.safetensors")),
        "folder": EncoderSpec(model=f"local-dir:{folder}"),
        "stated": EncoderSpec(
            model=model,
            pretrained=str(tmp_path / "copy.safetensors"),
            preprocess=PreprocessSpec(
                mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0], interpolation="bilinear", resize_mode="squash"
            ),
        ),
    }
    loaded = {name: load_encoder(name, spec, "cpu") for name, spec in specs.items()}
    tag = loaded["tag"]
    assert tag.preprocess.resize_mode == "squash"
    assert tag.preprocess.std == (1.0, 1.0, 1.0)
    for encoder in loaded.values():
        assert encoder.preprocess == tag.preprocess
        assert encoder.weights_sha256 == tag.weights_sha256
        assert torch.equal(features(encoder), features(tag))

    monkeypatch.setattr(published, "known_weights", lambda: {tag.weights_sha256: RN101})
    assert {identify(specs[name], loaded[name].weights_sha256) for name in specs} == {Identity(RN101, checked=True)}
    assert {published_row(specs[name], loaded[name].weights_sha256) for name in specs} == {("rn101", 58.72)}
    assert published_row(specs["stated"], "0" * 64)[0] == "vit_b16"


def published_row(spec: EncoderSpec, weights_sha256: str) -> tuple[str, float]:
    """Return the encoder and the accuracy of the published row that stands beside zero-shot on ImageNet."""
    params = made_params()
    params = params.model_copy(update={"encoders": {params.grid.encoder: spec}})
    score = SplitScore(accuracy=50.0, n=10, classes=4, average="micro", reason=None)
    scores = Scores(
        dataset="imagenet",
        trained_on="imagenet",
        task="few_shot",
        protocol="few_shot",
        run="zero_shot",
        method="zero_shot",
        generator=None,
        shots=None,
        encoder=EncoderId(name=params.grid.encoder, weights_sha256=weights_sha256),
        harmonic=None,
        seeds=(SeedScores(seed=1, eval_splits={"all": score}, harmonic_mean=None),),
    )
    table, values = find_published(scores, (), params)
    assert table is not None
    return table.encoder.name, values["all"]


def test_a_file_alone_is_refused_where_the_weights_of_a_model_differ_in_their_preprocessing(
    model: str, tmp_path: Path
) -> None:
    (tmp_path / "own.safetensors").touch()
    with pytest.raises(InputError, match=r"(?s)mobile, other.*weights: .*own\.safetensors.*preprocess:"):
        locate("x", EncoderSpec(model=model, pretrained=str(tmp_path / "own.safetensors")))


@pytest.mark.parametrize("name", ["ViT-B-16", "ViT-B-16-quickgelu", "RN50", "MobileCLIP-B"])
def test_a_file_alone_never_decides_an_activation(name: str, tmp_path: Path) -> None:
    (tmp_path / "own.safetensors").touch()
    spec = EncoderSpec(model=name, pretrained=str(tmp_path / "own.safetensors"))
    if name == "MobileCLIP-B":
        # All its tags agree.
        assert locate("x", spec).preprocess["std"] == (1.0, 1.0, 1.0)
        assert locate("x", spec).preprocess["interpolation"] == "bilinear"
    else:
        with pytest.raises(InputError, match=r"activation[\s\S]*openai"):
            locate("x", spec)


def test_weights_belong_to_a_tag(model: str, tmp_path: Path) -> None:
    for pretrained in (None, "random:0", str(tmp_path / "a.pt")):
        with pytest.raises(InputError, match="`weights`"):
            locate("x", EncoderSpec(model=model, pretrained=pretrained, weights="b.pt"))
    with pytest.raises(InputError, match=r"nowhere\.pt"):
        locate("x", EncoderSpec(model=model, pretrained="mobile", weights="nowhere.pt"))


def test_other_weights_than_those_of_the_definition_are_refused(model: str, tmp_path: Path) -> None:
    spec = EncoderSpec(model=model, pretrained="random:0")
    identity = load_encoder("x", spec, "cpu").weights_sha256
    load_encoder("x", spec.model_copy(update={"weights_sha256": identity}), "cpu")
    with pytest.raises(InputError, match=identity):
        load_encoder("x", spec.model_copy(update={"weights_sha256": "0" * 64}), "cpu")


@pytest.mark.parametrize(
    ("wrap", "hint"),
    [
        (lambda tensors: {"state_dict_ema": tensors}, "state_dict_ema"),
        (lambda tensors: {"model": tensors}, "'model'"),
        (lambda tensors: {f"_orig_mod.{name}": tensor for name, tensor in tensors.items()}, r"_orig_mod\."),
        (lambda tensors: {f"model.{name}": tensor for name, tensor in tensors.items()}, r"model\."),
    ],
)
def test_checkpoints_of_other_programs_are_explained_in_few_lines(
    wrap: Any, hint: str, model: str, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    (tmp_path / "open_clip_config.json").write_text(json.dumps(TINY), encoding="utf-8")
    torch.save(wrap(tensors), tmp_path / "other.pth")
    of_tag = EncoderSpec(model=model, pretrained="mobile", weights=str(tmp_path / "other.pth"))
    for spec in (of_tag, EncoderSpec(model=f"local-dir:{tmp_path}")):
        with pytest.raises(InputError, match=hint) as caught:
            load_encoder("x", spec, "cpu")
        assert len(str(caught.value)) < 4000


def test_home_is_expanded(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "copy.safetensors").touch()
    found = locate("x", EncoderSpec(model=model, pretrained="mobile", weights="~/copy.safetensors"))
    assert found.checkpoint == tmp_path / "copy.safetensors"
    (tmp_path / "open_clip_config.json").write_text("{}", encoding="utf-8")
    assert locate("x", EncoderSpec(model="local-dir:~", pretrained="random:0")).model == f"local-dir:{tmp_path}"


def test_the_archive_of_openais_own_cache_is_mentioned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(weights.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(weights.constants, "ENDPOINT", "http://127.0.0.1:9")
    (tmp_path / ".cache/clip").mkdir(parents=True)
    (tmp_path / ".cache/clip/ViT-B-16.pt").touch()
    with pytest.raises(InputError, match=r"torch\.jit\.load\('.*/\.cache/clip/ViT-B-16\.pt'"):
        locate("x", EncoderSpec(model="ViT-B-16-quickgelu", pretrained="openai"))


@pytest.mark.parametrize("source", ["tag", "folder"])
def test_fetched_weights_are_compared_with_the_sha256_of_their_repository(
    source: str, model: str, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    cached(tmp_path, REPOSITORY, "open_clip_config.json", json.dumps(TINY).encode())
    snapshot = tmp_path / "hub/models--someone--tiny-mobile/snapshots/1"
    blob = snapshot.parents[1] / "blobs" / hashlib.sha256(content).hexdigest()
    blob.parent.mkdir()
    blob.write_bytes(content)
    (snapshot / FILE).symlink_to(Path("../../blobs") / blob.name)
    tag = EncoderSpec(model=model, pretrained="mobile")
    spec = tag if source == "tag" else EncoderSpec(model=f"local-dir:{snapshot}")

    load_encoder("x", spec, "cpu")
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=rf"sha256[\s\S]*{FILE}[\s\S]*remove .*{blob.name}"):
        load_encoder("x", spec, "cpu")


def test_one_form_of_a_repositorys_weights_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def snapshot(repository: str, local_files_only: bool, allow_patterns: list[str]) -> str:
        asked.extend(allow_patterns)
        (tmp_path / "open_clip_config.json").write_text(json.dumps(TINY), encoding="utf-8")
        if allow_patterns == ["open_clip_pytorch_model.bin"]:
            (tmp_path / "open_clip_pytorch_model.bin").touch()
        return str(tmp_path)

    monkeypatch.setattr(weights, "snapshot_download", snapshot)
    monkeypatch.setattr(weights, "unreachable", lambda _: None)
    locate("x", EncoderSpec(model="hf-hub:some/repository"))
    assert asked[-1] == "open_clip_pytorch_model.bin"
    assert not {"*.bin", "*.pth", "*.safetensors"} & {*asked}


def test_a_tokenizer_is_that_of_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(weights.constants, "ENDPOINT", "http://127.0.0.1:9")

    def config(**text: Any) -> EncoderSpec:
        values = {"model_cfg": {"embed_dim": 8, "vision_cfg": {}, "text_cfg": text}}
        (tmp_path / "open_clip_config.json").write_text(json.dumps(values), encoding="utf-8")
        return EncoderSpec(model=f"local-dir:{tmp_path}", pretrained="random:0")

    assert locate_tokenizer("x", config()) == CLIP
    canonical = config(tokenizer_kwargs={"clean": "canonicalize"})
    assert locate_tokenizer("x", canonical) == ClipTokenizer("canonicalize")

    named = config(hf_tokenizer_name="timm/some")
    with pytest.raises(InputError, match=r"timm/some[\s\S]*encoders\.x\.tokenizer"):
        locate_tokenizer("x", named)
    source = write_tokenizer(tmp_path / "source", "siglip")
    cached(tmp_path, "timm/some", "tokenizer.json", (source / "tokenizer.json").read_bytes())
    cached(tmp_path, "timm/some", "tokenizer_config.json", (source / "tokenizer_config.json").read_bytes())
    of_cache = locate_tokenizer("x", named)
    assert isinstance(of_cache, JsonTokenizer)
    assert locate_tokenizer("x", named.model_copy(update={"tokenizer": str(source)})) == of_cache
    write_tokenizer(tmp_path, "bert")
    assert locate_tokenizer("x", named) != of_cache  # the folder's own comes first
