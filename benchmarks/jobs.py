"""Several cells at a time: what `shipyard run --jobs N` takes, beside one cell at a time.

`python -m benchmarks.jobs [N]` runs the demo in a clone of the last commit: what cells share first, then all cells of
the grid, twice with one job and twice with N, in turn and each from the same state.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from benchmarks.memory import ROOT

REPEATS = 2


def main(jobs: Annotated[int, typer.Argument(metavar="N", help="Cells at a time.")] = 2) -> None:
    """Print the wall time of all cells in seconds, by the number of jobs."""
    with TemporaryDirectory() as folder:
        ready = Path(folder) / "ready"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(ready)], check=True)  # noqa: S603, S607
        run(ready, sys.executable, "-m", "dvc", "repro", "--quiet", "text_tower", "build_task")

        measured: dict[int, list[float]] = {1: [], jobs: []}
        for number in [1, jobs] * REPEATS:
            repo = Path(folder) / "repo"
            shutil.copytree(ready, repo, symlinks=True)
            measured[number].append(run(repo, "shipyard", "run", "--quiet", "--jobs", str(number)))
            shutil.rmtree(repo)

    for number, times in measured.items():
        print(f"{number} at a time: {fmean(times):.1f} s")


def run(repo: Path, *command: str) -> float:
    """Run a command in a repository, with one thread for each cell; return its wall time in seconds."""
    environment = {**os.environ, "PYTHONPATH": str(repo), "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    subprocess.run(command, cwd=repo, env=environment, check=True)  # noqa: S603
    return time.perf_counter() - start


if __name__ == "__main__":
    typer.run(main)
