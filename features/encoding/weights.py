"""Find an encoder's weights: in a folder, in a file, in open_clip's cache, or by a download that may fail.

Mistakes that open_clip reports late, or only warns of, are errors here before a model is built.
"""

from __future__ import annotations

import difflib
import json
import re
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import constants, snapshot_download, try_to_load_from_cache

from features.encoding.definition import IMPORTED, LOCAL, EncoderSpec
from features.errors import InputError, nearest, raise_all
from features.formats.files import sha256
from features.runtime.lazy_open_clip import import_open_clip
from features.text import tokenizer

HUB, RANDOM = "hf-hub:", "random:"
CONFIG = "open_clip_config.json"
CHECKPOINTS = ("*.safetensors", "*.bin", "*.pth")  # what open_clip takes from a `local-dir:`
# What is fetched of a repository: its description, and the weights in the first of these forms that it has.
DESCRIPTION = (CONFIG, tokenizer.FILE, tokenizer.SETTINGS)
PREFERRED = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
PREPROCESS_KEYS = ("mean", "std", "interpolation", "resize_mode", "fill_color")
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")  # numbers among the weights of OpenAI's archives
TIMEOUT = 5  # seconds to wait for the first answer of a host that has the weights


class MissingWeightsError(InputError):
    """Weights that are neither on this machine nor downloadable at the moment."""


@dataclass(frozen=True)
class Source:
    """A model of open_clip and the source of its weights.

    Attributes:
        model: open_clip's name, or `local-dir:<folder>`.
        checkpoint: the file with the weights; None if they are in the folder or random, or were not looked for.
        seed: seed of random weights, or None.
        preprocess: preprocessing settings of the definition or of its tag, which replace open_clip's defaults.
    """

    model: str
    checkpoint: Path | None = None
    seed: int | None = None
    preprocess: dict[str, Any] = field(default_factory=dict)


def place_of(name: str, spec: EncoderSpec) -> str:
    """Return the place of a definition and its main settings, for messages."""
    return f"encoders.{name} (model: {spec.model}, pretrained: {spec.pretrained})"


def locate(name: str, spec: EncoderSpec, *, fetch: bool = True) -> Source:
    """Find the weights of the encoder `name` in `params.yaml`, or download them.

    Args:
        name: the encoder's name, for messages.
        spec: its definition.
        fetch: False: only check what the definition and files on this machine say, without looking for a tag's weights.

    Raises:
        InputError: a name is unknown, settings contradict each other, or the weights are neither on this machine nor
            downloadable.
    """
    where = place_of(name, spec)
    model, pretrained = spec.model, spec.pretrained
    if model == IMPORTED:
        raise InputError(
            f"{where} has no weights here: import its image features with `shipyard features import`, and its class "
            "texts with `shipyard features import-texts`"
        )
    seed = _random_seed(pretrained, where)
    stated = {} if spec.preprocess is None else spec.preprocess.model_dump()
    if spec.weights is not None and (pretrained is None or seed is not None or _is_path(pretrained)):
        raise InputError(f"{where}: `weights` is a copy of the file of a tag; set `pretrained` to this tag")

    if model.startswith((LOCAL, HUB)):
        if pretrained is not None and seed is None:
            raise InputError(f"{where}: the folder or repository contains the weights; remove `pretrained`")
        if model.startswith(HUB) and not fetch:
            return Source(model, seed=seed, preprocess=stated)
        folder = spec.folder or _hub_folder(model, where)
        _check_folder(folder, where, weights=seed is None)
        return Source(f"{LOCAL}{folder}", seed=seed, preprocess=stated)

    _check_model(model, where)
    if seed is not None:
        return Source(model, seed=seed, preprocess=stated)
    if pretrained is not None and _is_path(pretrained):
        file = _check_file(Path(pretrained).expanduser(), where)
        return Source(model, checkpoint=file, preprocess=stated or _common_preprocess(model, file, where))

    config = _tag_config(model, pretrained, where)
    preprocess = stated or {key: config[key] for key in PREPROCESS_KEYS if key in config}
    if spec.weights is not None:
        return Source(model, checkpoint=_check_file(Path(spec.weights).expanduser(), where), preprocess=preprocess)
    return Source(model, _find_checkpoint(model, config, where) if fetch else None, preprocess=preprocess)


def _common_preprocess(model: str, file: Path, where: str) -> dict[str, Any]:
    """Return the preprocessing of weights of one's own, if all weights that open_clip knows for the model agree on it.

    Raises:
        InputError: they do not agree on it, or on the activation; a wrong one costs accuracy without any other sign.
    """
    open_clip = import_open_clip()

    plain = model.removesuffix("-quickgelu")
    siblings = [name for name in (plain, f"{plain}-quickgelu") if name in open_clip.list_models()]
    tags = {tag for name in siblings for tag in open_clip.list_pretrained_tags_by_model(name)}
    configs = [open_clip.get_pretrained_cfg(name, tag) for name in siblings for tag in tags]
    configs = [config for config in configs if config]

    kinds = {
        json.dumps([bool(config.get("quick_gelu")), *(config.get(key) for key in PREPROCESS_KEYS)])
        for config in configs
    }
    activation = bool(open_clip.get_model_config(model).get("quick_gelu"))
    if len(kinds) > 1 or any(bool(config.get("quick_gelu")) != activation for config in configs):
        raise InputError(
            f"{where}: the weights that open_clip knows for {plain} differ in their activation or preprocessing from "
            f"each other or from {model}, and {file.name} does not say which it has.\n"
            f"  A copy of the file of a tag ({', '.join(sorted(tags))}): set pretrained: <tag> and weights: {file}\n"
            "  Weights of your own: set preprocess: {mean: [...], std: [...], interpolation: bicubic, resize_mode: "
            f"shortest}}, and model: {' or '.join(siblings)}, as they were trained"
        )
    return {key: configs[0][key] for key in PREPROCESS_KEYS if key in configs[0]} if configs else {}


def _random_seed(pretrained: str | None, where: str) -> int | None:
    """Return the seed of `random:<seed>`, None for anything else."""
    if pretrained is None or not pretrained.startswith(RANDOM):
        return None
    if not re.fullmatch(r"\d{1,9}", digits := pretrained.removeprefix(RANDOM)):
        raise InputError(f"{where}: invalid seed {digits!r}: expected random:<whole number>, such as random:0")
    return int(digits)


def _check_folder(folder: Path, where: str, *, weights: bool) -> None:
    if not (folder / CONFIG).is_file():
        raise InputError(f"{where}: {folder / CONFIG} does not exist; `local-dir:` must name a folder that contains it")
    if weights and not any(file for pattern in CHECKPOINTS for file in folder.glob(pattern)):
        # open_clip would continue with random weights and a line in the log.
        raise InputError(f"{where}: {folder} contains no weights ({', '.join(CHECKPOINTS)})")


def _is_path(pretrained: str) -> bool:
    """Return whether a name is a file or was meant as one, so that a missing file is not reported as an unknown tag."""
    return (
        Path(pretrained).is_file()
        or "/" in pretrained
        or Path(pretrained).suffix in (".pt", ".pth", ".bin", ".safetensors", ".npz")
    )


def _check_file(file: Path, where: str) -> Path:
    if not file.is_file():
        raise InputError(f"{where}: the file {file} does not exist")
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any("/code/" in member for member in archive.namelist()):
                raise InputError(
                    f"{where}: {file} is a TorchScript archive, which contains code beside the weights (OpenAI's own "
                    ".pt files are such archives); only plain weights are loaded. Convert it once, on a machine that "
                    f"trusts it:\n  {_conversion(file)}"
                )
    return file


def _conversion(archive: Path) -> str:
    """Return the command that writes the weights of a TorchScript archive into a safetensors file."""
    return (
        'python -c "import torch, safetensors.torch as s; s.save_file({k: v.contiguous() for k, v in '
        f"torch.jit.load('{archive}', 'cpu').state_dict().items() if k not in {NOT_WEIGHTS}}}, "
        f"'{archive.with_suffix('.safetensors').name}')\""
    )


def _check_model(model: str, where: str) -> None:
    open_clip = import_open_clip()

    known = open_clip.list_models()
    if model not in known:
        close = difflib.get_close_matches(model, known, n=8, cutoff=0.4)
        raise InputError(
            f"{where}: unknown model {model!r}; {nearest(model, close)}, ... "
            f"(all {len(known)}: open_clip.list_models())"
        )


def _tag_config(model: str, tag: str | None, where: str) -> dict[str, Any]:
    """Return open_clip's entry for a tag: where the weights are and how their images are preprocessed."""
    open_clip = import_open_clip()

    tags = open_clip.list_pretrained_tags_by_model(model)
    config: dict[str, Any] = open_clip.get_pretrained_cfg(model, tag) if tag else {}
    other = model.removesuffix("-quickgelu") if model.endswith("-quickgelu") else f"{model}-quickgelu"
    if not config:
        other_has_tag = tag and other in open_clip.list_models() and open_clip.get_pretrained_cfg(other, tag)
        hint = f" ({other!r} has this tag)" if other_has_tag else ""
        problem = f"{tag!r} is neither a file nor a tag of {model}{hint}" if tag else "`pretrained` is missing"
        raise InputError(f"{where}: {problem}; {nearest(tag or '', tags)}, a file, or random:<seed>")

    trained_with = bool(config.get("quick_gelu"))
    if trained_with != bool(open_clip.get_model_config(model).get("quick_gelu")) and other in open_clip.list_models():
        # open_clip 3.3 only warns and computes with the wrong activation, which costs several points of accuracy.
        raise InputError(
            f"{where}: the weights {tag!r} were trained {'with' if trained_with else 'without'} QuickGELU and "
            f"{model!r} does not match: set model: {other}"
        )
    return config


def _find_checkpoint(model: str, config: dict[str, Any], where: str) -> Path:
    """Return the checkpoint of a tag, from open_clip's cache or the network."""
    open_clip = import_open_clip()

    repository, _, filename = config.get("hf_hub", "").rpartition("/")
    names = [filename] if filename else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    if filename.endswith((".bin", ".pth")):
        names.insert(0, f"{filename[:-4]}.safetensors")  # open_clip prefers it
    for name in names if repository else []:
        cached_file = try_to_load_from_cache(repository, name)
        if isinstance(cached_file, str):
            return Path(cached_file)

    url: str = config.get("url", "")
    cached = Path("~/.cache/clip").expanduser() / url.rpartition("/")[2]
    if not repository and url and cached.is_file():
        return cached

    reason = unreachable(constants.ENDPOINT if repository else url)
    if reason is None:
        try:
            downloaded: str = open_clip.download_pretrained(config)
            return Path(downloaded)
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error)

    source = f"the file {' or '.join(names)} of the Hugging Face repository {repository}" if repository else url
    original = (
        f"\n  {cached} has them as a TorchScript archive: {_conversion(cached)}, and set `weights` to the new file"
        if repository and url and cached.is_file()
        else ""
    )
    raise MissingWeightsError(
        f"{where}: the weights are not on this machine and cannot be downloaded ({reason}).\n"
        f"  Download on another machine: {source}\n"
        f"  Then set its path in params.yaml: {where.partition(' ')[0]}.weights: <path of the file>, "
        f"beside model: {model} and the tag as they are;\n"
        f"  or copy the cache of open_clip from there ({'the folder of HF_HOME' if repository else cached.parent})"
        f"{original}"
    )


def _hub_folder(model: str, where: str) -> Path:
    """Return the folder with a repository's files, from the cache or the network."""
    repository = model.removeprefix(HUB)
    reason = unreachable(constants.ENDPOINT)
    offline = reason is not None
    try:
        folder = Path(snapshot_download(repository, local_files_only=offline, allow_patterns=[*DESCRIPTION]))
        for pattern in (*PREFERRED, *CHECKPOINTS):
            # One form of the weights is enough; a repository may hold several of gigabytes each.
            if any(file for known in CHECKPOINTS for file in folder.glob(known)):
                break
            folder = Path(snapshot_download(repository, local_files_only=offline, allow_patterns=[pattern]))
        return folder
    except (OSError, RuntimeError, ValueError) as error:
        raise MissingWeightsError(
            f"{where}: the repository is not on this machine and cannot be downloaded ({reason or error}).\n"
            f"  Download the Hugging Face repository {repository} on another machine; set model: 'local-dir:<folder>'"
        ) from error


def weight_files(source: Source) -> list[Path]:
    """Return the files that the weights come from; none if they are random."""
    if source.seed is not None:
        return []
    if source.checkpoint is not None:
        return [source.checkpoint]
    folder = Path(source.model.removeprefix(LOCAL))
    return [file for pattern in CHECKPOINTS for file in folder.glob(pattern)]


def check_downloads(source: Source, where: str) -> None:
    """Compare fetched weights with the sha256 that their repository states, by which the hub's cache names its files.

    Raises:
        InputError: files are damaged; all of them are listed.
    """
    # snapshots/<commit>/<file> -> ../../blobs/<sha256>; a file that is no link was put there by hand.
    links = [file for file in weight_files(source) if file.is_symlink()]
    stated = {file: file.readlink().name for file in links if re.fullmatch("[0-9a-f]{64}", file.readlink().name)}
    damaged = [f"{file}: remove {file.resolve()}" for file, digest in stated.items() if sha256(file) != digest]
    raise_all(damaged, f"{where}: fetched weights have another sha256 than their repository states")


def unreachable(url: str) -> str | None:
    """Return why a host cannot be reached, or None if it answers.

    One request with a short timeout: huggingface_hub retries its own for minutes without a network.
    """
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT):  # noqa: S310
            return None
    except urllib.error.HTTPError:
        return None  # an error status is an answer, too
    except (OSError, ValueError) as error:
        return f"no network: {getattr(error, 'reason', error)}"
