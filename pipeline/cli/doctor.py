"""What would stop a run on this machine, a line each, with its remedy."""

from __future__ import annotations

import platform
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from features.errors import InputError
from pipeline.artifacts.paths import EncoderPaths
from pipeline.config.params import Params, load
from pipeline.executor.git import git

State = Literal["ok", "note", "stop"]

FULL = 1 << 30  # bytes free: with less, not even the demo is sure to end
TIGHT = 30 << 30  # bytes free: ImageNet's features with ten views are 14 GB, and DVC's cache may hold a copy


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        about: what. state: `ok`, `note` (a run may still do) or `stop` (it will not).
        text: what was found. remedy: what to do about it.
    """

    about: str
    state: State
    text: str
    remedy: str = ""

    @property
    def stops(self) -> bool:
        """Whether a run would fail."""
        return self.state == "stop"

    def __str__(self) -> str:
        remedy = f" -> {self.remedy}" if self.remedy else ""
        return f"{self.state:<4}  {self.about:<14}  {self.text}{remedy}"


def examine() -> Iterator[Finding]:
    """Look at everything that a run needs, each finding as soon as it is there."""
    yield _python()
    yield _torch()
    yield _installed("open_clip_torch")
    yield from _dvc()
    yield _disk()
    try:
        params = load()
    except InputError as error:
        yield Finding("params", "stop", _one_line(error), "mend params.yaml, then run `shipyard doctor` again")
        return
    for look in (_params, _device, _encoder, _data):
        yield from look(params)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()} ({sys.executable})")


def _installed(package: str) -> Finding:
    try:
        return Finding(package.partition("_torch")[0], "ok", version(package))
    except PackageNotFoundError:
        return Finding(package, "stop", "is not installed", "run `make setup`")


def _torch() -> Finding:
    try:
        import torch
        import torchvision
    except (ImportError, RuntimeError, OSError) as error:  # torchvision of another build than torch raises RuntimeError
        return Finding("torch", "stop", _one_line(error), "run `make clean setup`: torch and torchvision go in pairs")
    return Finding("torch", "ok", f"{torch.__version__}, torchvision {torchvision.__version__}")


def _dvc() -> Iterator[Finding]:
    yield _installed("dvc")
    if shutil.which("git") is None:
        yield Finding("git", "stop", "is not on PATH", "install git: DVC needs it")
    elif not Path(".dvc").is_dir():
        yield Finding("git", "stop", f"{Path.cwd()} is not the project", "change to the folder that holds dvc.yaml")
    elif git("rev-parse", "--git-dir") is None:
        yield Finding("git", "stop", "this folder is no git repository, and DVC works in no other", "run `git init`")
    elif (commit := git("rev-parse", "--short", "HEAD")) is None:
        yield Finding("git", "note", "no commit yet: `dvc exp` needs one", "run `git add . && git commit`")
    else:
        yield Finding("git", "ok", f"at {commit}" + " with changes" * bool(git("status", "--porcelain")))


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / (1 << 30):.1f} GiB free"
    if free < FULL:
        return Finding("disk", "stop", text, "make room: features, and DVC's cache of them, are written here")
    if free < TIGHT:
        return Finding("disk", "note", text, "enough for small data sets; `dvc gc --workspace` frees old results")
    return Finding("disk", "ok", text)


def _params(params: Params) -> Iterator[Finding]:
    from pipeline.cli.check import check

    try:
        check(params)
    except InputError as error:
        yield Finding("params", "stop", _one_line(error), "mend params.yaml")
    else:
        yield Finding("params", "ok", "params.yaml is right")


def _device(params: Params) -> Iterator[Finding]:
    from features.runtime.devices import cores, pick_device

    try:
        device = pick_device(params.compute.device)
    except InputError as error:
        yield Finding("device", "stop", _one_line(error))
    else:
        yield Finding("device", "ok", f"{device.type}, {cores()} cores (compute.device: {params.compute.device})")


def _encoder(params: Params) -> Iterator[Finding]:
    from huggingface_hub import constants

    from features.encoding.weights import locate

    name, spec = params.grid.encoder, params.encoder
    text = f"{name} ({', '.join(filter(None, [spec.model, spec.pretrained]))})"
    offline = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True  # look, and download nothing
    try:
        found = locate(name, spec.model, spec.pretrained)
        where = found.checkpoint or ("random" if found.seed is not None else found.model.partition(":")[2])
        yield Finding("encoder", "ok", f"{text}: its weights are here: {where}")
    except InputError as error:
        yield _no_weights(params, text, error, offline or not _answers(constants.ENDPOINT))
    finally:
        constants.HF_HUB_OFFLINE = offline


def _no_weights(params: Params, text: str, error: InputError, offline: bool) -> Finding:
    """Weights that are not here stop a run only if it needs them and cannot fetch them."""
    paths = EncoderPaths(params.artifacts)
    made = [paths.text_tower, *(paths.features(dataset) for dataset in params.grid.datasets)]
    if all(path.exists() for path in made):
        return Finding("encoder", "note", f"{text}: no weights, but all that they make is in {params.artifacts}")
    if "cannot be fetched" in str(error) and not offline:
        return Finding("encoder", "note", f"{text}: no weights here yet; the first run downloads them")
    return Finding("encoder", "stop", _one_line(error))


def _answers(url: str) -> bool:
    """Whether a host can be reached."""
    try:
        with urllib.request.urlopen(url, timeout=3):  # noqa: S310 (huggingface_hub's own address)
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


def _data(params: Params) -> Iterator[Finding]:
    from features.datasets.base import reader_from

    for name in params.grid.datasets:
        try:
            folder = reader_from(params.data.sets[name], f"data.sets.{name}").folder(Path(params.data.root))
        except InputError as error:
            done = EncoderPaths(params.artifacts).features(name).is_dir()
            state: State = "note" if done else "stop"  # what comes after the features needs no image
            yield Finding(f"data: {name}", state, _one_line(error), "" if not done else "its features are there")
        else:
            yield Finding(f"data: {name}", "ok", str(folder))
