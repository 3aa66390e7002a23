"""A small run to break: a DVC repository with every stage done, and stages as child processes that can be killed."""

from __future__ import annotations

import os
import runpy
import shlex
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from benchmarks.faults.failing_open import preload
from benchmarks.memory import ROOT

LIBRARIES = ("h5py", "open_clip", "pyarrow.parquet", "safetensors.torch", "scipy.io", "sklearn.linear_model", "zarr")
OURS = ("features", "pipeline", "stages")
SMALL_SHARDS = "CROPS_IN_SHARD = 4096", "CROPS_IN_SHARD = 8"  # so that the twelve images of a split make several shards
OWN = ("data", "classes", "draws", "encoder", "params.yaml", "dvc.yaml")  # what no command may change by itself
LOCAL_PAGE = "report.html"  # of `shipyard report`, with times of this machine
NEW = 70  # exit status of a child for an error other than `InputError`


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        fault: what was done.
        tried: how often.
        outcome: what happened, if all is well.
        wrong: the first failure, or empty.
    """

    fault: str
    tried: int
    outcome: str
    wrong: str = ""

    def line(self) -> str:
        """Return the row as a line of Markdown."""
        return f"| {self.fault} | {self.tried:,} | {f'**wrong**: {self.wrong}' if self.wrong else self.outcome} |\n"


@dataclass(frozen=True)
class Stage:
    """A stage of dvc.lock.

    Attributes:
        name: with its matrix key, such as `fit@twemoji-base_to_new-coop`.
        arguments: of `python -m`.
        outs: paths of its outputs.
    """

    name: str
    arguments: list[str]
    outs: list[str]

    @property
    def kind(self) -> str:
        """Return its name in dvc.yaml."""
        return self.name.partition("@")[0]


class Workspace:
    """A repository in which every stage has run, undisturbed."""

    def __init__(self, repo: Path) -> None:
        self.repo, self.output = repo, repo.parent / "output"
        self.before = self.now()
        self.stage_names = [stage.name for stage in self.stages()]
        self.outputs = [out for stage in self.stages() for out in stage.outs]
        named = [repo / name for name in OWN]
        own = [file for path in named for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
        self.own = {file: file.read_bytes() for file in own}

    def stages(self) -> list[Stage]:
        """Return all stages in the order in which they ran."""
        lock = yaml.safe_load((self.repo / "dvc.lock").read_text(encoding="utf-8"))["stages"]
        return [
            Stage(name, shlex.split(stage["cmd"])[2:], [out["path"] for out in stage["outs"]])
            for name, stage in lock.items()
        ]

    def files(self, folder: str) -> list[Path]:
        """Return the files below a folder of the repository in a fixed order, without hidden ones in `artifacts`."""
        files = sorted(file for file in (self.repo / folder).rglob("*") if file.is_file())
        return [file for file in files if not file.relative_to(self.repo / folder).parts[0].startswith(".")]

    def now(self) -> dict[str, bytes]:
        """Return every file of `artifacts` by its path; without hidden ones, which stages work in."""
        root = self.repo / "artifacts"
        files = {file.relative_to(root): file for file in root.rglob("*") if file.is_file()}
        return {
            path.as_posix(): file.read_bytes()
            for path, file in files.items()
            if not any(part.startswith(".") for part in path.parts) and path.name != LOCAL_PAGE
        }

    def whole(self) -> bool:
        """Return whether the outputs equal those of an undisturbed run, byte for byte, with no other file."""
        return self.now() == self.before

    def damaged(self) -> list[str]:
        """Return the outputs that differ from those of an undisturbed run."""
        return [name for name, data in self.now().items() if self.before.get(name) != data]

    def clear(self, stage: Stage) -> None:
        """Remove its outputs, as DVC does before it starts a stage."""
        for path in (self.repo / out for out in stage.outs):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def dvc(self, *arguments: str) -> str:
        """Run `dvc` and return its output."""
        return str(import_module("small_repo").run(self.repo, "dvc", *arguments, check=False))

    def start(self, stage: Stage, output: Path | None = None) -> int:
        """Start a child that runs the stage, with its output in a file; return its process id."""
        if child := os.fork():
            os.setpgid(child, child)  # in both processes, because either may come first
            return child
        status = NEW
        try:
            os.setpgid(0, 0)
            os.chdir(self.repo)
            out = os.open(output or self.output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666)
            os.dup2(out, 1)
            os.dup2(out, 2)
            status = _become(stage.arguments, self.repo)
        except BaseException:  # noqa: BLE001 (the child must end here, whatever happened)
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def run(self, stage: Stage) -> tuple[int, str]:
        """Run a stage; return its exit status and its output."""
        status = finish(self.start(stage))
        return status, self.output.read_text(encoding="utf-8", errors="replace")


def _become(arguments: list[str], repo: Path) -> int:
    """Run `python -m <arguments>` in the repository with its own modules, and return the exit status."""
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    sys.path.insert(0, str(repo))
    sys.argv = arguments
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def finish(child: int) -> int:
    """Return the exit status of a child; -9 after a kill."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill(child: int, after: float) -> int:
    """Kill a child and its processes after some seconds; return its exit status, -9 unless it ended before."""
    end = time.monotonic() + after
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.killpg(child, signal.SIGKILL)
    return finish(child)


@contextmanager
def workspace() -> Iterator[Workspace]:
    """Yield a temporary repository with the tests' pictures and encoder, in which every stage has run."""
    sys.path.insert(0, str(ROOT / "tests/helpers"))
    small_repo: Any = import_module("small_repo")
    for name in LIBRARIES:  # children are forks, which start at once
        import_module(name)
    with TemporaryDirectory() as folder:
        preload(Path(folder))  # the programs of `warm_path` are started after that
        os.environ["DVC_SITE_CACHE_DIR"] = f"{folder}/site"
        with small_repo.warm_path():
            yield _made(Path(folder) / "repo", small_repo)


def _made(repo: Path, small_repo: Any) -> Workspace:
    """Make the repository and run every stage."""
    repo.mkdir()
    small_repo.make_repo(repo)
    writer = repo / "features/image_store/writer.py"
    text = writer.read_text(encoding="utf-8")
    if text.count(SMALL_SHARDS[0]) != 1:
        raise AssertionError(f"{writer.name} no longer says {SMALL_SHARDS[0]}")
    writer.write_text(text.replace(*SMALL_SHARDS), encoding="utf-8")
    small_repo.run(repo, "dvc", "repro", "--quiet")
    return Workspace(repo)
