"""Run DVC as a child process of the same Python, and report its failures separately from those of this program."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from features.errors import InputError
from features.runtime.interruption import INTERRUPTED
from features.runtime.watch import watched_environment


def repro(jobs: int | None = None, engine: str = "local") -> None:
    """Bring the pipeline up to date, `jobs` cells at a time (`pipeline.executor.cells`).

    Args:
        jobs: None for one cell at a time, or with the engine `ray` for all that fit the cluster.
        engine: where cells run, `local` or `ray` (`pipeline.executor.engines`).

    Raises:
        InputError: cells failed, or DVC cannot run; the reason is printed.
        SystemExit: 130, after Ctrl-C, when the running cells have ended.
    """
    options = ["--engine", engine, *(["--jobs", str(jobs)] if jobs else [])]
    status = _run([sys.executable, "-m", "pipeline.executor.cells", *options])
    if status:
        raise InputError(
            "the pipeline is not up to date; see the errors above. Completed stages are kept: `shipyard run` continues "
            "after the fix. `shipyard doctor` checks this machine."
        )


def reindex(datasets: Sequence[str]) -> None:
    """Index data sets again whose images changed; DVC does not track images, so it would not.

    Raises:
        InputError: a data set cannot be indexed; the stage has printed the reason.
    """
    if datasets and _dvc("repro", "--quiet", "--force", "--single-item", *(f"index@{name}" for name in datasets)):
        raise InputError("the images cannot be indexed again; see the error above. The old results are unchanged")


def keep(name: str) -> None:
    """Save the current parameters and metrics as a DVC experiment; one with the same name is replaced.

    Raises:
        InputError: DVC cannot save it; DVC has printed the reason.
    """
    if status := _dvc("exp", "save", "--quiet", "--force", "--name", name):
        raise InputError(
            f"`dvc exp save` failed with exit status {status}; see the error above. The results are complete, but they "
            f"are not saved as experiment {name}. An experiment needs a git repository with a commit."
        )


def dvc_command(*arguments: str) -> list[str]:
    """Return the command line that runs `dvc` with this Python."""
    return [sys.executable, "-m", "pipeline.executor.dvc_child", *arguments]


def dvc_environment() -> dict[str, str]:
    """Return an environment in which `python` is this Python, and whose processes end with this one."""
    return {
        **watched_environment(),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }


def _dvc(*arguments: str) -> int:
    """Run `dvc` and return its exit status."""
    return _run(dvc_command(*arguments))


def _run(command: Sequence[str]) -> int:
    """Run a program and return its exit status."""
    with subprocess.Popen(command, env=dvc_environment()) as child:  # noqa: S603 (names are checked before)
        status, interrupted = _wait(child)
    if interrupted:
        sys.exit(INTERRUPTED)
    return status


def _wait(child: subprocess.Popen[bytes]) -> tuple[int, bool]:
    """Wait for the child and return its status, and whether Ctrl-C was pressed.

    The terminal sends Ctrl-C to the child too. The child stops its stage, which needs time to clean up, so this process
    keeps waiting.
    """
    interrupted = False
    while True:
        try:
            return child.wait(), interrupted
        except KeyboardInterrupt:
            interrupted = True
