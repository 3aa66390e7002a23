"""Kill each stage and a whole run with `kill -9` at random moments, then run it again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.faults.workspace import Row, Stage, Workspace, finish, kill


def rows(space: Workspace, times: int) -> Iterator[Row]:
    """Yield a row per stage: after a kill its outputs are complete or absent, and a rerun gives the same bytes."""
    rng = random.Random(0)  # noqa: S311 (times of kills, not secrets)
    kinds: set[str] = set()
    for stage in space.stages():
        if stage.kind not in kinds:
            kinds.add(stage.kind)
            yield _killed(space, stage, times, rng)
    yield _killed_run(space, max(1, times // 5), rng)


def _killed(space: Workspace, stage: Stage, times: int, rng: random.Random) -> Row:
    space.clear(stage)
    began = time.monotonic()
    finish(space.start(stage))
    took = time.monotonic() - began
    killed, kept, wrong = 0, 0, []
    for _ in range(times):
        space.clear(stage)
        moment = rng.uniform(0, took)
        killed += kill(space.start(stage), moment) == -signal.SIGKILL
        if damaged := space.damaged():
            wrong.append(f"damaged after {moment:.2f} s: {damaged[0]}")
        finished = _inodes(space.repo / "artifacts/.scratch/extract")  # hard links of files in the store
        status, output = space.run(stage)
        if status or not space.whole():
            wrong.append(f"other bytes after {moment:.2f} s and a rerun: {output[-200:]}")
        if lost := finished - _inodes(space.repo / "artifacts"):
            wrong.append(f"{len(lost)} finished shards computed again")
        kept += len(finished)
    outcome = f"same bytes; {killed} were killed at work, {times - killed} had ended"
    outcome += f"; all {kept} shards that were finished were kept" if stage.kind == "extract" else ""
    return Row(f"`{stage.kind}`", times, outcome, wrong[0] if wrong else "")


def _inodes(folder: Path) -> set[int]:
    """Return the inodes of all finished files."""
    files = (file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    return {file.stat().st_ino for file in files if file.suffix != ".lock"}


def _killed_run(space: Workspace, times: int, rng: random.Random) -> Row:
    """Kill a whole `dvc repro` with its stage, which leaves DVC's own locks behind."""
    command = [sys.executable, "-m", "dvc", "repro", "--force"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(space.repo)}
    wrong = ""
    for _ in range(times):
        moment = rng.uniform(2, 20)
        with subprocess.Popen(  # noqa: S603 (ours)
            command, cwd=space.repo, env=env, process_group=0, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as run:
            time.sleep(moment)
            os.killpg(run.pid, signal.SIGKILL)
        output = space.dvc("repro")
        if not space.whole() or "Running stage" in space.dvc("repro"):
            wrong = f"other bytes, or not up to date, after {moment:.1f} s: {output[-200:]}"
    return Row("`dvc repro` of all, with its stage", times, "`dvc repro` goes on; same bytes", wrong)
