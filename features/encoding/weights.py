"""Where an encoder's weights lie: in a folder, in a file, in open_clip's cache, or behind a download that may fail.

Everything that open_clip would find out late, or only warn of, is settled here before a model is built.
"""

from __future__ import annotations

import difflib
import re
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import constants, snapshot_download, try_to_load_from_cache

from features.errors import InputError, nearest
from features.runtime.lazy_open_clip import import_open_clip

LOCAL, HUB, RANDOM = "local-dir:", "hf-hub:", "random:"
CONFIG = "open_clip_config.json"
CHECKPOINTS = ("*.safetensors", "*.bin", "*.pth")  # what open_clip takes from a `local-dir:`
PATIENCE = 5  # seconds to wait for the first answer of a host that has the weights


@dataclass(frozen=True)
class Source:
    """What to build and what to fill it with.

    Attributes:
        model: open_clip's name, or `local-dir:<folder>`.
        checkpoint: the file with the weights; None: those in the folder, or random ones.
        seed: of random weights, else None.
        preprocess: what the tag says of preprocessing beyond open_clip's defaults.
    """

    model: str
    checkpoint: Path | None = None
    seed: int | None = None
    preprocess: dict[str, Any] = field(default_factory=dict)


def locate(name: str, model: str, pretrained: str | None) -> Source:
    """Find, or fetch, the weights of the encoder `name` in `params.yaml`.

    Args:
        name: for messages.
        model: a model of open_clip, `local-dir:<folder>` or `hf-hub:<repository>`.
        pretrained: a tag of open_clip, a file, `random:<seed>` (the true architecture with random weights, for tests),
            or None where `model` says it all.

    Raises:
        InputError: unknown names, contradictions, or weights that are not here and cannot be fetched.
    """
    where = f"encoders.{name} (model: {model}, pretrained: {pretrained})"
    seed = _seed(pretrained, where)
    if model.startswith((LOCAL, HUB)):
        if pretrained is not None and seed is None:
            raise InputError(f"{where}: the folder or repository brings its own weights; remove `pretrained`")
        folder = Path(model.removeprefix(LOCAL)) if model.startswith(LOCAL) else _hub_folder(model, where)
        _check_folder(folder, where, weights=seed is None)
        return Source(f"{LOCAL}{folder}", seed=seed)
    _check_model(model, where)
    if seed is not None:
        return Source(model, seed=seed)
    if pretrained is not None and (Path(pretrained).is_file() or _is_path(pretrained)):
        return Source(model, checkpoint=_check_file(Path(pretrained), where))
    config = _tag_config(model, pretrained, where)
    return Source(model, checkpoint=_fetch(model, config, where), preprocess=config)


def _seed(pretrained: str | None, where: str) -> int | None:
    if pretrained is None or not pretrained.startswith(RANDOM):
        return None
    if not re.fullmatch(r"\d{1,9}", digits := pretrained.removeprefix(RANDOM)):
        raise InputError(f"{where}: {digits!r} is no seed; write random:<a whole number>, such as random:0")
    return int(digits)


def _check_folder(folder: Path, where: str, *, weights: bool) -> None:
    if not (folder / CONFIG).is_file():
        raise InputError(f"{where}: there is no {folder / CONFIG}; `local-dir:` names a folder that holds one")
    if weights and not any(file for pattern in CHECKPOINTS for file in folder.glob(pattern)):
        # open_clip would go on with random weights and a line in the log
        raise InputError(f"{where}: {folder} holds no weights ({', '.join(CHECKPOINTS)})")


def _is_path(pretrained: str) -> bool:
    return "/" in pretrained or Path(pretrained).suffix in (".pt", ".pth", ".bin", ".safetensors", ".npz")


def _check_file(file: Path, where: str) -> Path:
    if not file.is_file():
        raise InputError(f"{where}: there is no file {file}")
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any("/code/" in member for member in archive.namelist()):
                raise InputError(
                    f"{where}: {file} is a TorchScript archive, a program with weights, as OpenAI's own .pt files are; "
                    "only weights are read. Convert it once, on a machine that trusts it:\n"
                    f'  python -c "import torch, safetensors.torch as s; s.save_file({{k: v.contiguous() for k, v in '
                    f"torch.jit.load('{file}', 'cpu').state_dict().items() if v.ndim or k == 'logit_scale'}}, "
                    f"'{file.with_suffix('.safetensors').name}')\""
                )
    return file


def _check_model(model: str, where: str) -> None:
    open_clip = import_open_clip()

    known = open_clip.list_models()
    if model not in known:
        close = difflib.get_close_matches(model, known, n=8, cutoff=0.4)
        raise InputError(
            f"{where}: open_clip has no model {model!r}; {nearest(model, close)}, ... "
            f"(all {len(known)}: open_clip.list_models())"
        )


def _tag_config(model: str, tag: str | None, where: str) -> dict[str, Any]:
    """open_clip's entry for a tag: where the weights lie and how their images are preprocessed."""
    open_clip = import_open_clip()

    tags = open_clip.list_pretrained_tags_by_model(model)
    config: dict[str, Any] = open_clip.get_pretrained_cfg(model, tag) if tag else {}
    other = model.removesuffix("-quickgelu") if model.endswith("-quickgelu") else f"{model}-quickgelu"
    if not config:
        has = tag and other in open_clip.list_models() and open_clip.get_pretrained_cfg(other, tag)
        hint = f"; {other!r} has it" if has else ""
        asked = f"{tag!r} is neither a file nor a tag of {model}{hint}" if tag else "which weights is not said"
        raise InputError(f"{where}: {asked}; {nearest(tag or '', tags)}, a file, or random:<seed>")
    trained_with = bool(config.get("quick_gelu"))
    if trained_with != bool(open_clip.get_model_config(model).get("quick_gelu")) and other in open_clip.list_models():
        # open_clip 3.3 only warns and goes on with the wrong activation, which costs several points of accuracy
        raise InputError(
            f"{where}: the weights {tag!r} were trained {'with' if trained_with else 'without'} QuickGELU and "
            f"{model!r} computes otherwise: write model: {other}"
        )
    return config


def _fetch(model: str, config: dict[str, Any], where: str) -> Path:
    """The checkpoint of a tag, from open_clip's cache or the network."""
    open_clip = import_open_clip()

    repository, _, filename = config.get("hf_hub", "").rpartition("/")
    names = [filename] if filename else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    if filename.endswith((".bin", ".pth")):
        names.insert(0, f"{filename[:-4]}.safetensors")  # open_clip prefers it
    for found in (try_to_load_from_cache(repository, file) for file in names if repository):
        if isinstance(found, str):
            return Path(found)
    url: str = config.get("url", "")
    cached = Path.home() / ".cache" / "clip" / url.rpartition("/")[2]
    if not repository and url and cached.is_file():
        return cached
    reason = _unreachable(constants.ENDPOINT if repository else url)
    if reason is None:
        try:
            fetched: str = open_clip.download_pretrained(config)
            return Path(fetched)
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error)
    source = f"the file {' or '.join(names)} of the Hugging Face repository {repository}" if repository else url
    raise InputError(
        f"{where}: the weights are not on this machine and cannot be fetched ({reason}).\n"
        f"  to fetch them elsewhere: {source}\n"
        f"  then write its path here: params.yaml: {where.partition(' ')[0]}.pretrained: <path of the file>, "
        f"beside model: {model};\n"
        f"  or copy the cache that open_clip filled there ({'the folder of HF_HOME' if repository else cached.parent})"
    )


def _hub_folder(model: str, where: str) -> Path:
    """A repository's files as a folder, from the cache or the network."""
    repository = model.removeprefix(HUB)
    reason = _unreachable(constants.ENDPOINT)
    try:
        return Path(snapshot_download(repository, local_files_only=reason is not None))
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{where}: the repository is not on this machine and cannot be fetched ({reason or error}).\n"
            f"  fetch the Hugging Face repository {repository} elsewhere, and write model: local-dir:<its folder>"
        ) from error


def _unreachable(url: str) -> str | None:
    """Why a host cannot be asked for a file, or None when it can.

    One question with little patience, because huggingface_hub repeats its own for minutes where there is no network.
    """
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE):  # noqa: S310
            return None
    except urllib.error.HTTPError:
        return None  # it answered
    except (OSError, ValueError) as error:
        return f"no network: {getattr(error, 'reason', error)}"
