"""Faults of the machine: full disks, read-only folders, wrong clocks, second runs, lost remotes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.faults.workspace import Row, Stage, Workspace, finish

WRITERS = ("index", "extract", "build_task", "fit")  # Parquet, Zarr, HDF5, safetensors
PLAIN = "a plain error; afterwards the same bytes"
PEEK = os.WEXITED | os.WNOHANG | os.WNOWAIT  # whether a child has ended, without taking note of it
LONG_AGO, TO_COME = 10**9, 2 * 10**9  # 2001 and 2033


def rows(space: Workspace, times: int) -> Iterator[Row]:  # noqa: ARG001 (each is tried once)
    """Yield a row per fault."""
    stages = {stage.kind: stage for stage in reversed(space.stages())}
    for kind in WRITERS:
        yield _cannot_write(space, stages[kind], "the disk full", "size=4k,nr_inodes=64", "No space left on device")
        yield _cannot_write(space, stages[kind], "the folder not writable", "ro", "Read-only file system")
    yield _clock(space, "2001", LONG_AGO)
    yield _clock(space, "2033", TO_COME)
    yield _two_extractions(space, stages["extract"])
    yield _two_runs(space, stages["fit"])
    yield _lost_remote(space)


def _refused(space: Workspace, stage: Stage, word: str) -> str:
    """Return how a stage failed to handle a fault; empty if it reports the fault and damages nothing."""
    status, output = space.run(stage)
    if status == 1 and word in output and "Traceback" not in output and not space.damaged():
        return ""
    return f"status {status}: {' '.join(output.split())[-200:]}"


def _again(space: Workspace, stage: Stage) -> str:
    """Return what is wrong after the fault is gone and the stage has run again; empty if nothing."""
    status, output = space.run(stage)
    return "" if status == 0 and space.whole() else f"afterwards status {status} or other bytes: {output[-200:]}"


@contextmanager
def _mounted(stage: Stage, space: Workspace, options: str) -> Iterator[bool]:
    """Mount another file system at the folder of the stage's first output; yield whether that was permitted."""
    folder = (space.repo / stage.outs[0]).parent
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0  # noqa: S603 (ours)
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)  # noqa: S603, S607 (ours)


def _cannot_write(space: Workspace, stage: Stage, fault: str, options: str, word: str) -> Row:
    """Run a stage on a file system that cannot be written, then on the usual one."""
    fault = f"`{stage.kind}`, {fault}"
    space.clear(stage)
    with _mounted(stage, space, options) as mounted:
        wrong = _refused(space, stage, word) if mounted else ""
    wrong = _again(space, stage) or wrong
    return Row(fault, int(mounted), PLAIN if mounted else "not tried: no right to mount", wrong)


def _clock(space: Workspace, year: str, when: int) -> Row:
    """Set the time of every file, as after a change of the clock or from an unpacked archive."""
    for folder in ("data", "artifacts", "features", "pipeline", "stages"):
        for file in (space.repo / folder).rglob("*"):
            os.utime(file, (when, when))
    ran = "Running stage" in space.dvc("repro")
    wrong = "stages ran again" if ran else "" if space.whole() else "other bytes"
    return Row(f"clock set: every file of the year {year}", 1, "nothing runs, nothing changes", wrong)


def _two_extractions(space: Workspace, stage: Stage) -> Row:
    """Start a second extraction while the first is stopped in the middle of its work."""
    first = _stopped_at_work(space, stage)
    wrong = _refused(space, stage, "another process is extracting the same features")
    os.killpg(first, signal.SIGCONT)
    disturbed = finish(first) != 0 or not space.whole()
    wrong = wrong or ("the first was disturbed" if disturbed else "")
    return Row("a second `extract` of the same", 1, "a plain error; the first goes on", wrong)


def _stopped_at_work(space: Workspace, stage: Stage) -> int:
    """Start an extraction and stop it at its first shard, which it writes only when it holds its lock.

    On a busy machine it may have ended before it is stopped; then another one is started.
    """
    scratch = space.repo / "artifacts/.scratch/extract"
    while True:
        space.clear(stage)
        shutil.rmtree(scratch, ignore_errors=True)
        child = space.start(stage, output=space.repo.parent / "first")
        _until(lambda: any(scratch.glob("*/*")) or os.waitid(os.P_PID, child, PEEK) is not None)  # noqa: B023 (called here)
        os.killpg(child, signal.SIGSTOP)
        if os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1]):
            return child


def _two_runs(space: Workspace, stage: Stage) -> Row:
    """Run two `dvc repro --force` of one stage at once."""
    command = ["dvc", "repro", "--force", "--single-item", stage.name]
    env = {**os.environ, "PYTHONPATH": str(space.repo)}
    runs = [
        subprocess.Popen(command, cwd=space.repo, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603 (ours)
        for _ in range(2)
    ]
    outputs = [run.communicate()[0] for run in runs]
    lost = [text for run, text in zip(runs, outputs, strict=True) if run.returncode]
    plain = len(lost) < 2 and all("is busy" in text or "acquire lock" in text for text in lost)
    whole = space.whole() and "Running stage" not in space.dvc("repro")
    outcome = "one works, DVC tells the other what blocks it" if lost else "one waits for the other"
    wrong = "" if plain and whole else f"damage, or no plain error: {' '.join(lost)[-200:]}"
    return Row("two `dvc repro` at once in one workspace", 1, f"{outcome}; same bytes", wrong)


def _lost_remote(space: Workspace) -> Row:
    """Kill a push, push to a missing remote, then push again and pull everything back."""
    remote, lost = space.repo.parent / "remote", space.repo.parent / "lost"
    remote.mkdir()
    space.dvc("remote", "add", "--default", "--force", "shelf", str(remote))
    with subprocess.Popen([sys.executable, "-m", "dvc", "push", "--quiet"], cwd=space.repo) as push:
        _until(lambda: any(file.is_file() for file in remote.rglob("*")) or push.poll() is not None)
        push.kill()
    remote.rename(lost)
    remote.write_text("no folder any more", encoding="utf-8")
    failed, unharmed = "ERROR" in space.dvc("push"), space.whole()
    remote.unlink()
    lost.rename(remote)
    output = space.dvc("push")
    for folder in (".dvc/cache", "artifacts"):
        shutil.rmtree(space.repo / folder)
    output += space.dvc("pull")
    came = "" if space.whole() else f"what came back is not what was pushed: {' '.join(output.split())[-400:]}"
    wrong = came if failed and unharmed else f"a plain error: {failed}, artifacts unharmed: {unharmed}"
    outcome = "a plain error; the next push completes it, and a pull brings the same bytes"
    return Row("the remote lost in the middle of a push", 1, outcome, wrong)


def _until(done: Callable[[], bool]) -> None:
    while not done():
        time.sleep(0.001)
