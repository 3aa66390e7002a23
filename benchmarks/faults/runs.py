"""A `shipyard run` with some stages to do, as a child process with a tree of its own, and what it left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp

import psutil

from benchmarks.faults.workspace import Stage, Workspace
from features.formats.files import remove
from pipeline.executor.lock_writer import HEADER, split_blocks

STAGES = 3  # done by a run: enough for moments between them, and few enough for many runs
PATIENCE = 90  # seconds that processes may take to end on a busy machine
DELAY = 500  # ms that each of the first files that a stage writes takes longer to open, on a slow disk
COLD = [sys.executable, "-m", "pipeline"]  # programs of their own, which can be killed one by one
WARM = ["shipyard"]  # forks of a server that has imported the libraries, which start at once


@dataclass(frozen=True)
class End:
    """How a run ended: its exit status and what it printed."""

    status: int
    output: str

    def complaint(self) -> str:
        """Return what is wrong with the way it ended: a traceback; empty if nothing is."""
        return f"a traceback: {self.tail()}" if "Traceback" in self.output else ""

    def tail(self) -> str:
        """Return the end of its output, as one line."""
        return " ".join(self.output.split())[-300:].replace("|", "/")


class Run:
    """A `shipyard run` that is at work."""

    def __init__(self, space: Workspace, command: Sequence[str], *arguments: str, **environment: str) -> None:
        handle, name = mkstemp()  # not beside the repository, whose disk may be full
        self.output = Path(name)
        with os.fdopen(handle, "wb") as file:
            self.process = subprocess.Popen(  # noqa: S603 (ours)
                [*command, *arguments],
                cwd=space.repo,
                env=environment_of(space, **environment),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.seen: set[psutil.Process] = set()

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Wait until something holds or the run has ended, and take note of the processes of the run meanwhile."""
        while not done() and self.process.poll() is None:
            self.look()
            time.sleep(0.01)
        self.look()

    def look(self) -> list[psutil.Process]:
        """Return the processes below the run, and take note of them."""
        with suppress(psutil.Error):
            below: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
            self.seen.update(below)
            return below
        return []

    def end(self) -> End:
        """Wait until it ends, and return how."""
        self.process.wait()
        output = self.output.read_text(encoding="utf-8", errors="replace")
        self.output.unlink()
        return End(self.process.returncode, output)

    def survivors(self) -> list[str]:
        """Return the command lines of its processes that have not ended in time, and end those."""
        _, alive = psutil.wait_procs(self.seen, timeout=PATIENCE)
        names = []
        for process in alive:
            with suppress(psutil.Error):
                names.append(" ".join(process.cmdline()))
                process.kill()
        return names

    def send(self, target: str, kind: signal.Signals, rng: random.Random) -> None:
        """Send a signal to the `group` of the run, to its first process (`parent`), or to one below it (`child`)."""
        below = self.look()
        with suppress(ProcessLookupError, psutil.Error):
            if target == "group":
                os.killpg(self.process.pid, kind)
            elif target == "parent":
                self.process.send_signal(kind)
            elif below:
                rng.choice(below).send_signal(kind)


def is_stage(process: psutil.Process) -> bool:
    """Return whether a process runs the command of a stage: it is a fork of the server that has the libraries."""
    try:
        parent = process.parent()
        return parent is not None and any("multiprocessing.forkserver" in word for word in parent.cmdline())
    except psutil.Error:  # one of the two has ended meanwhile
        return False


def environment_of(space: Workspace, **more: str) -> dict[str, str]:
    """Return the environment of a program in the workspace, which runs the workspace's code."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(space.repo), **more}


def slow_disk(space: Workspace) -> dict[str, str]:
    """Return what an environment needs for stages that work long enough to be met by most signals."""
    return {"FAULT_LOG": os.devnull, "FAULT_ROOT": f"{space.repo}/artifacts/", "FAULT_DELAY": str(DELAY)}


def finished_run(space: Workspace, *arguments: str, **environment: str) -> End:
    """Run `shipyard run` to its end, undisturbed."""
    return Run(space, WARM, "run", *arguments, **environment).end()


def some_stages(space: Workspace, rng: random.Random) -> list[Stage]:
    """Return a few stages that follow one another in dvc.lock."""
    stages = space.stages()
    first = rng.randrange(len(stages) - STAGES + 1)
    return stages[first : first + STAGES]


def undo(space: Workspace, stages: Sequence[Stage]) -> None:
    """Remove the outputs of stages, their entries in dvc.lock, and what DVC's run cache knows of them."""
    lock = space.repo / "dvc.lock"
    blocks = split_blocks(lock.read_text(encoding="utf-8")) or {}
    undone = {f"  {stage.name}:" for stage in stages}
    lock.write_text(HEADER + "".join(text for key, text in blocks.items() if key not in undone), encoding="utf-8")
    for stage in stages:
        space.clear(stage)
    remove(space.repo / ".dvc/cache/runs")


def after_a_rerun(space: Workspace, *, whole: Callable[[], bool] | None = None) -> str:
    """Run again without a fault; return what differs then from an undisturbed run; empty if nothing."""
    end = finished_run(space)
    if end.status or end.complaint():
        return f"a rerun ended with {end.status}: {end.tail()}"
    if not (whole or space.whole)():
        return f"other bytes after a rerun: {space.damaged()[:1]}"
    if lost := [name for name in space.stage_names if name not in {stage.name for stage in space.stages()}]:
        return f"not in dvc.lock after a rerun: {lost[:1]}"
    return ""


def touched(space: Workspace) -> list[str]:
    """Return the user's files that are not as they were before."""
    return [str(path) for path, data in space.own.items() if not path.is_file() or path.read_bytes() != data]


def inspect(space: Workspace) -> str:
    """Return what is wrong with the files that a fault has left, empty if nothing is."""
    if changed := touched(space):
        return f"a file of the user was changed: {changed[0]}"
    if damaged := space.damaged():
        return f"damaged: {damaged[0]}"
    return ""


def changes(path: Path) -> Callable[[], bool]:
    """Return a function that says whether a file has been written since this call."""

    def state() -> int:
        try:
            return path.stat().st_mtime_ns
        except OSError:
            return 0

    before = state()
    return lambda: state() != before
