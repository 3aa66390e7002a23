"""Checks of this machine: everything that would stop a run, one line each, with its fix."""

from __future__ import annotations

import platform
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from pathlib import Path
from typing import Literal

from features.errors import InputError
from pipeline.artifacts.paths import EncoderPaths
from pipeline.config.params import Params, load
from pipeline.executor.git import git
from pipeline.executor.repository import lock_file_problem

State = Literal["ok", "note", "stop"]

GIB = 1 << 30
HASHED = 1 << 28  # bytes that are hashed, half a second's work
MIN_FREE = GIB  # bytes; with less, even the demo may fail
LOW_FREE = 30 * GIB  # bytes; ImageNet's features with ten views are 14 GB, and DVC's cache may hold a copy


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        about: what was checked.
        state: `ok`, `note` (a run may still succeed) or `stop` (a run would fail).
        text: the result.
        fix: what to do about it; empty if there is nothing to do.
    """

    about: str
    state: State
    text: str
    fix: str = ""

    @property
    def stops(self) -> bool:
        """Return whether a run would fail."""
        return self.state == "stop"

    def __str__(self) -> str:
        fix = f" -> {self.fix}" if self.fix else ""
        return f"{self.state:<4}  {self.about:<14}  {self.text}{fix}"


def examine() -> Iterator[Finding]:
    """Check everything that a run needs; yield each finding as soon as it is known."""
    yield _python()
    yield _torch()
    yield _package("open_clip_torch")
    yield from _dvc()
    lock = _lock_file()
    yield lock
    if not lock.stops:
        yield _outputs()
    yield _disk()

    # The other checks depend on the settings.
    try:
        params = load()
    except InputError as error:
        yield Finding("params", "stop", _one_line(error), "fix params.yaml, then run `shipyard doctor` again")
        return
    for check in (_params, _device, _encoder, _weights, _data, _own_images, _folders):
        yield from check(params)


def _one_line(error: Exception) -> str:
    """Return an error message without line breaks."""
    return " ".join(str(error).split())


def _python() -> Finding:
    """Report the version and the path of Python."""
    return Finding("python", "ok", f"{platform.python_version()} ({sys.executable})")


def _package(package: str) -> Finding:
    """Check that a package is installed."""
    try:
        return Finding(package.removesuffix("_torch"), "ok", version(package))
    except PackageNotFoundError:
        return Finding(package, "stop", "not installed", "run `make setup`")


def _torch() -> Finding:
    """Check that torch and torchvision can be imported together."""
    try:
        import torch
        import torchvision
    except (ImportError, RuntimeError, OSError) as error:  # RuntimeError: torchvision of another build than torch
        return Finding(
            "torch", "stop", _one_line(error), "run `make clean setup`, which installs torch with its torchvision"
        )
    return Finding("torch", "ok", f"{torch.__version__}, torchvision {torchvision.__version__}")


def _lock_file() -> Finding:
    """Check that dvc.yaml and dvc.lock can be read."""
    if problem := _stages_problem():
        return Finding("dvc.yaml", "stop", problem)
    problem = lock_file_problem()
    return Finding("dvc.lock", "stop" if problem else "ok", problem or "can be read")


def _stages_problem() -> str | None:
    """Return what is wrong with dvc.yaml and what to do; None if DVC can read it or another check reports it."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if not Path(".dvc").is_dir():
        return None
    try:
        YAML(typ="safe").load(Path("dvc.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, YAMLError) as error:
        return f"dvc.yaml cannot be read: {_one_line(error)}. Restore it with `git checkout dvc.yaml`"
    return None


def _outputs() -> Finding:
    """Hash the smallest outputs; `shipyard verify` hashes all."""
    from pipeline.executor.damage import cache_folder, find_damage, tracked_files

    try:
        cache = cache_folder()
    except Exception as error:  # noqa: BLE001 (whatever DVC raises where there is no repository; `_dvc` reports that)
        return Finding("outputs", "note", f"not checked: {_one_line(error)}")

    files = sorted(tracked_files(cache), key=lambda file: file.size)
    sizes = accumulate(file.size for file in files)
    few = [file for file, size in zip(files, sizes, strict=True) if size <= HASHED]
    bad = [str(path) for damage in find_damage(few) for path in damage.bad]

    more = "" if len(few) == len(files) else f"; `shipyard verify` hashes the other {len(files) - len(few)}, too"
    if bad:
        return Finding("outputs", "stop", f"damaged: {', '.join(bad)}{more}", "run `shipyard verify --repair`")
    found = len(few) - sum(file.missing for file in few)
    return Finding("outputs", "ok", f"{found} of {len(files)} files are what dvc.lock records{more}")


def _dvc() -> Iterator[Finding]:
    """Check that DVC is installed and that this folder is a DVC project in a git repository."""
    yield _package("dvc")
    if shutil.which("git") is None:
        yield Finding("git", "stop", "git is not on PATH", "install git, which DVC needs")
    elif not Path(".dvc").is_dir():
        yield Finding(
            "git", "stop", f"{Path.cwd()} is not the root of the project", "change to the folder that holds dvc.yaml"
        )
    elif git("rev-parse", "--git-dir") is None:
        yield Finding("git", "stop", "this folder is not a git repository, which DVC needs", "run `git init`")
    elif (commit := git("rev-parse", "--short", "HEAD")) is None:
        yield Finding("git", "note", "no commit yet; `dvc exp` needs one", "run `git add . && git commit`")
    else:
        changed = bool(git("status", "--porcelain"))
        yield Finding("git", "ok", f"at commit {commit}" + (", with uncommitted changes" if changed else ""))


def _disk() -> Finding:
    """Check the free space of the disk that holds the project."""
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / GIB:.1f} GiB free"
    if free < MIN_FREE:
        return Finding("disk", "stop", text, "free some space: features and DVC's cache of them are written here")
    if free < LOW_FREE:
        return Finding("disk", "note", text, "enough for small data sets; `dvc gc --workspace` deletes old results")
    return Finding("disk", "ok", text)


def _params(params: Params) -> Iterator[Finding]:
    """Check every block that the grid names."""
    from pipeline.cli.check import check

    try:
        check(params)
    except InputError as error:
        yield Finding("params", "stop", _one_line(error), "fix params.yaml")
    else:
        yield Finding("params", "ok", "params.yaml is valid")


def _device(params: Params) -> Iterator[Finding]:
    """Check that the device of `compute.device` exists."""
    from features.runtime.cores import cores
    from features.runtime.devices import pick_device

    try:
        device = pick_device(params.compute.device)
    except InputError as error:
        yield Finding("device", "stop", _one_line(error))
    else:
        yield Finding("device", "ok", f"{device.type}, {cores()} cores (compute.device: {params.compute.device})")


def _encoder(params: Params) -> Iterator[Finding]:
    """Check that the weights of the encoder are on this machine, without downloading anything."""
    from huggingface_hub import constants

    from features.encoding.weights import locate

    name, spec = params.grid.encoder, params.encoder
    text = f"{name} ({', '.join(filter(None, [spec.model, spec.pretrained]))})"

    offline = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True  # `locate` then looks into the cache only
    try:
        weights = locate(name, spec)
        place = weights.checkpoint or ("random" if weights.seed is not None else weights.model.partition(":")[2])
        yield Finding("encoder", "ok", f"{text}, weights: {place}")
        yield from _tokenizer_of(name, params)
    except InputError as error:
        yield _missing_weights(params, text, error, offline or not _reachable(constants.ENDPOINT))
    finally:
        constants.HF_HUB_OFFLINE = offline


def _tokenizer_of(name: str, params: Params) -> Iterator[Finding]:
    """Check that the tokenizer of an encoder is on this machine, if it is not open_clip's own."""
    from features.encoding.configuration import locate_tokenizer

    if not EncoderPaths(params.artifacts).text_tower.exists():
        locate_tokenizer(name, params.encoder)
    yield from ()


def _weights(params: Params) -> Iterator[Finding]:
    """Show the identity of the encoder's weights, once its text tower is there, and whether they are known."""
    from features.text.tower_file import tower_weights
    from pipeline.cli.changed_weights import check_weights
    from pipeline.report.published import identify, known_weights

    path = EncoderPaths(params.artifacts).text_tower
    if not path.exists():
        return
    try:
        sha256 = tower_weights(path)
        check_weights(params)
    except InputError as error:
        yield Finding("weights", "stop", _one_line(error))
        return
    if sha256 is None:  # class texts are imported
        return
    identity = identify(params.encoder, sha256)
    name = identity.encoder or "none of the papers' encoders"
    if sha256 in known_weights():
        yield Finding("weights", "ok", f"sha256 {sha256}, known: {name}")
    else:
        yield Finding(
            "weights", "note", f"sha256 {sha256}, by its definition {name}", "not in assets/published/weights.csv"
        )


def _missing_weights(params: Params, text: str, error: InputError, offline: bool) -> Finding:
    """Return the finding for missing weights: they stop a run only if it needs them and cannot download them."""
    from features.encoding.weights import MissingWeightsError

    paths = EncoderPaths(params.artifacts)
    artifacts = [paths.text_tower, *(paths.features(dataset) for dataset in params.grid.datasets)]
    if all(path.exists() for path in artifacts):
        return Finding(
            "encoder", "note", f"{text}: weights not found; not needed, because its artifacts are in {params.artifacts}"
        )
    if isinstance(error, MissingWeightsError) and not offline:
        return Finding("encoder", "note", f"{text}: weights not found; the first run downloads them")
    return Finding("encoder", "stop", _one_line(error))


def _reachable(url: str) -> bool:
    """Return whether a host answers within three seconds."""
    try:
        with urllib.request.urlopen(url, timeout=3):  # noqa: S310 (huggingface_hub's own address)
            return True
    except urllib.error.HTTPError:
        return True  # an error page is an answer
    except (OSError, ValueError):
        return False


def _data(params: Params) -> Iterator[Finding]:
    """Check that the folder of each data set of the grid exists."""
    from pipeline.cli.data_list import folder_of

    for name in params.grid.datasets:
        about = f"data: {name}"
        try:
            yield Finding(about, "ok", str(folder_of(params, name)))
        except InputError as error:
            # The stages after `extract` need no image.
            if EncoderPaths(params.artifacts).features(name).is_dir():
                yield Finding(about, "note", _one_line(error), "not needed: the features are extracted")
            else:
                yield Finding(about, "stop", _one_line(error))


def _own_images(params: Params) -> Iterator[Finding]:
    """Check that own images are still those that were indexed."""
    from pipeline.cli.stale import stale_indexes

    try:
        stale = stale_indexes(params)
    except InputError as error:
        yield Finding("own images", "stop", _one_line(error))
        return
    for name, changes in stale.items():
        text = f"changed since they were indexed: {changes}"
        yield Finding(f"images: {name}", "note", text, "`shipyard run` indexes them again")


def _folders(params: Params) -> Iterator[Finding]:
    """Check that DVC can record outputs where they are written."""
    from pipeline.cli.check import unusable_folders

    yield from (Finding("folders", "stop", line) for line in unusable_folders(params))
