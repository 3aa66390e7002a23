"""A small run to spoil: a DVC repository with every stage done, and stages as children that can be killed."""

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

from benchmarks.measure import ROOT

LIBRARIES = ("h5py", "open_clip", "pyarrow.parquet", "safetensors.torch", "scipy.io", "sklearn.linear_model", "zarr")
OURS = ("features", "pipeline", "stages")
SMALL_SHARDS = "CROPS_IN_SHARD = 4096", "CROPS_IN_SHARD = 8"  # so that the twelve images of a split are several
NEW = 70  # exit status of a child over an error that is no `InputError`


@dataclass(frozen=True)
class Row:
    """What was tried, how often, and what came of it; `wrong` says where that is not as it should be."""

    fault: str
    tried: int
    found: str
    wrong: str = ""

    def line(self) -> str:
        """Of the table."""
        return f"| {self.fault} | {self.tried:,} | {f'**wrong**: {self.wrong}' if self.wrong else self.found} |\n"


@dataclass(frozen=True)
class Stage:
    """A stage of dvc.lock: the arguments of its program, and its outputs."""

    name: str
    arguments: list[str]
    outs: list[str]

    @property
    def kind(self) -> str:
        """Its name in dvc.yaml."""
        return self.name.partition("@")[0]


class Workspace:
    """A repository in which every stage has run, undisturbed."""

    def __init__(self, repo: Path) -> None:
        self.repo, self.said = repo, repo.parent / "said"
        self.before = self.now()

    def stages(self) -> list[Stage]:
        """In the order in which they ran."""
        lock = yaml.safe_load((self.repo / "dvc.lock").read_text(encoding="utf-8"))["stages"]
        return [
            Stage(name, shlex.split(stage["cmd"])[2:], [out["path"] for out in stage["outs"]])
            for name, stage in lock.items()
        ]

    def now(self) -> dict[str, bytes]:
        """Every file of `artifacts` by its path in it, but hidden ones, in which stages work."""
        root = self.repo / "artifacts"
        files = {file.relative_to(root): file for file in root.rglob("*") if file.is_file()}
        return {
            path.as_posix(): file.read_bytes()
            for path, file in files.items()
            if not any(part.startswith(".") for part in path.parts)
        }

    def whole(self) -> bool:
        """Whether all is there that an undisturbed run leaves, byte for byte, and nothing else."""
        return self.now() == self.before

    def damaged(self) -> list[str]:
        """Outputs under their own name that are not what an undisturbed run leaves."""
        return [name for name, data in self.now().items() if self.before.get(name) != data]

    def clear(self, stage: Stage) -> None:
        """Remove its outputs, as DVC does before it starts a stage."""
        for path in (self.repo / out for out in stage.outs):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def dvc(self, *arguments: str) -> str:
        """What `dvc` says."""
        return str(import_module("small_repo").run(self.repo, "dvc", *arguments, check=False))

    def start(self, stage: Stage, said: Path | None = None) -> int:
        """The process id of a child that runs the stage; what it says goes to a file."""
        if child := os.fork():
            os.setpgid(child, child)  # here, too: who comes first is not known
            return child
        status = NEW
        try:
            os.setpgid(0, 0)
            os.chdir(self.repo)
            out = os.open(said or self.said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666)
            os.dup2(out, 1)
            os.dup2(out, 2)
            status = _become(stage.arguments, self.repo)
        except BaseException:  # noqa: BLE001 (the child must end here, whatever happened)
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def run(self, stage: Stage) -> tuple[int, str]:
        """A stage's exit status, and what it said."""
        status = finish(self.start(stage))
        return status, self.said.read_text(encoding="utf-8", errors="replace")


def _become(arguments: list[str], repo: Path) -> int:
    """The exit status of `python -m <arguments>` in the repository, with its modules in place of ours."""
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
    """A child's exit status; -9 after a kill."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill(child: int, after: float) -> int:
    """Kill a child and what it started after some seconds; its exit status, which is no -9 if it was faster."""
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
    """A repository of its own, made and done once with the tests' pictures and encoder; gone afterwards."""
    sys.path.insert(0, str(ROOT / "tests"))
    small_repo: Any = import_module("small_repo")
    for name in LIBRARIES:  # children are forks, which start at once
        import_module(name)
    with TemporaryDirectory() as folder, small_repo.warm_path():
        repo = Path(folder) / "repo"
        repo.mkdir()
        small_repo.make_repo(repo)
        writer = repo / "features/image_store/writer.py"
        text = writer.read_text(encoding="utf-8")
        if text.count(SMALL_SHARDS[0]) != 1:
            raise AssertionError(f"{writer.name} no longer says {SMALL_SHARDS[0]}")
        writer.write_text(text.replace(*SMALL_SHARDS), encoding="utf-8")
        small_repo.run(repo, "dvc", "repro", "--quiet")
        yield Workspace(repo)
