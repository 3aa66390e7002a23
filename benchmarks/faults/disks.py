"""Fill the disk of a whole repository during a `shipyard run`, then give it room and run again."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.faults.runs import WARM, Run, after_a_rerun, finished_run, inspect, some_stages, undo
from benchmarks.faults.workspace import Row, Workspace

ROOM = 256 << 20  # bytes
MOST = 1_000_000  # bytes left: a run needs more, so that every trial meets a full disk
PAGE = 4096  # a tmpfs has whole pages
REFUSALS = ("No space left on device", "disk is full", "disk full")


def rows(space: Workspace, times: int) -> Iterator[Row]:
    """Yield a row: at each size the run ends, or says that the disk is full; with room, it goes on."""
    rng = random.Random(0)  # noqa: S311 (stages, not secrets)
    fault = "the disk of the repository has 0 to 1,000 kB left"
    with _mounted(space.repo.parent / "disk") as folder:
        if folder is None:
            yield Row(fault, 0, "not tried: no right to mount")
            return

        moved = Workspace(shutil.copytree(space.repo, folder / "repo", symlinks=True))
        finished_run(moved)
        refused, wrong = 0, []
        for number in range(times):
            undo(moved, some_stages(moved, rng))
            _resize(folder, _used(folder) + number * MOST // times // PAGE * PAGE)
            end = Run(moved, WARM, "run").end()
            refused += end.status != 0
            text = end.complaint() or inspect(moved)
            if end.status and not any(word in end.output for word in REFUSALS):
                text = text or f"no plain error: {end.tail()}"
            _resize(folder, ROOM)
            text = text or after_a_rerun(moved)
            if text:
                wrong.append(f"with {number * MOST // times} bytes left: {text}")
        outcome = f"{refused} refused: the disk is full; with room, the next run goes on; same bytes"
        yield Row(fault, times, outcome, wrong[0] if wrong else "")


@contextmanager
def _mounted(folder: Path) -> Iterator[Path | None]:
    """Mount a file system in memory; yield its folder, None without the right to mount."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0  # noqa: S603 (ours)
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)  # noqa: S603, S607 (ours)


def _resize(folder: Path, size: int) -> None:
    command = ["mount", "-o", f"remount,size={max(size, PAGE)}", str(folder)]
    subprocess.run(command, check=True)  # noqa: S603 (ours)


def _used(folder: Path) -> int:
    state = os.statvfs(folder)
    return (state.f_blocks - state.f_bfree) * state.f_frsize
