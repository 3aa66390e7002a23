"""DVC as a child: of the same Python, stopped by the same Ctrl-C, its failure told apart from ours."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from features.errors import InputError
from features.runtime.interruption import INTERRUPTED
from features.runtime.progress import quiet


def repro(targets: Sequence[str] = ()) -> None:
    """Bring the pipeline up to date.

    Raises:
        InputError: a stage failed, or DVC cannot run here; it has said why.
        SystemExit: 130, interrupted, after the stage has ended.
    """
    status = _dvc("repro", *(["--quiet"] if quiet() else []), *targets)
    if status:
        raise InputError(
            f"`dvc repro` ended with status {status}; the first error above says why. What was complete is kept: "
            "`shipyard run` goes on from there. `shipyard doctor` looks for what is missing on this machine."
        )


def keep(name: str) -> None:
    """Keep what is there, parameters and metrics, as a DVC experiment; an older one of the same name is replaced.

    Raises:
        InputError: DVC cannot keep it; it has said why.
    """
    if status := _dvc("exp", "save", "--quiet", "--force", "--name", name):
        raise InputError(
            f"`dvc exp save` ended with status {status}; the error above says why. The results are complete all the "
            "same; an experiment needs a Git repository with a commit."
        )


def dvc_command(*arguments: str) -> list[str]:
    """`dvc` with this Python."""
    return [sys.executable, "-m", "pipeline.executor.dvc_child", *arguments]


def dvc_environment() -> dict[str, str]:
    """In which stages, which are `python -m stages...`, find this Python."""
    return {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}


def _dvc(*arguments: str) -> int:
    """The exit status of `dvc`."""
    command = dvc_command(*arguments)
    with subprocess.Popen(command, env=dvc_environment()) as child:  # noqa: S603 (names are checked before)
        status, interrupted = _wait(child)
    if interrupted:
        sys.exit(INTERRUPTED)
    return status


def _wait(child: subprocess.Popen[bytes]) -> tuple[int, bool]:
    """The child's status, and whether Ctrl-C came; the terminal sends it to the child too, which ends its stage."""
    interrupted = False
    while True:
        try:
            return child.wait(), interrupted
        except KeyboardInterrupt:
            interrupted = True
