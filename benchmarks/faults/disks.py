"""Fill the disk of a whole repository during a `shipyard run`, then give it room and run again."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.faults.runs import WARM, Run, after_a_rerun, finished_run, inspect, some_stages, undo
from benchmarks.faults.workspace import Row, Workspace

ROOM = 256 << 20  # bytes
LEAST, MOST = 1 << 12, 1 << 24  # bytes left. A run of three stages needs 0.1 to 8 MB, so most meet a full disk.
PAGE = 4096  # a tmpfs has whole pages
# With the file, or with the folder of DVC's own files.
REFUSAL = re.compile(r"(artifacts|\.dvc|dvc\.lock|params\.yaml|site)\b.*: .*(No space left on device|disk is full)")


def rows(space: Workspace, times: int) -> Iterator[Row]:
    """Yield a row: at each size the run finishes, or names the file that found no room; with room, the next goes on."""
    rng, site = random.Random(0), os.environ["DVC_SITE_CACHE_DIR"]  # noqa: S311 (stages, not secrets)
    fault = "the disk of the repository has 4 kB to 16 MB left"
    with _mounted(space.repo.parent / "disk") as folder:
        if folder is None:
            yield Row(fault, 0, "not tried: no right to mount")
            return

        moved = Workspace(shutil.copytree(space.repo, folder / "repo", symlinks=True))
        os.environ["DVC_SITE_CACHE_DIR"] = f"{folder}/site"  # as on a machine with one disk
        finished_run(moved)
        refused, wrong = 0, []
        for number in range(times):
            undo(moved, some_stages(moved, rng))
            left = int(LEAST * (MOST / LEAST) ** (number / max(1, times - 1)))
            _resize(folder, _used(folder) + left // PAGE * PAGE)
            end = Run(moved, WARM, "run").end()
            refused += end.status != 0
            text = end.complaint() or inspect(moved)
            if end.status and not REFUSAL.search(end.output):
                text = text or f"no error that names the file: {end.tail()}"
            _resize(folder, ROOM)
            again = after_a_rerun(moved)
            if text or again:
                wrong.append(f"with {left} bytes left: {text or again}")
        outcome = f"{refused} named what found no room, {times - refused} finished; with room, the next run goes on"
        os.environ["DVC_SITE_CACHE_DIR"] = site
        yield Row(fault, times, f"{outcome}; same bytes", wrong[0] if wrong else "")


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
