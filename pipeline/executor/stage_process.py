"""Run the command of a stage: in a fork of a server that has imported the libraries of all stages, where that is safe.

A new Python needs 4 to 12 seconds of CPU to import torch and the modules of a stage; a fork needs a tenth of a second.
Each cell still has a process of its own, so no state passes from one cell to the next. The server is that of
`multiprocessing`. It computes nothing, so it has no threads that a fork would lose.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from multiprocessing.connection import wait
from pathlib import Path
from threading import Lock

from features.runtime.interruption import INTERRUPTED

THREADS = "OMP_NUM_THREADS"
STAGE = "python -m stages."  # how the command of a stage begins
SHELL_SIGNS = set(";&|<>$`()*?\n")
PRELOADED = ["stages.preloaded"]  # none: each command is a new process, as DVC runs it

# `multiprocessing` looks at all children of this process whenever one of them is started or joined.
_children = Lock()


def is_stage(command: object) -> bool:
    """Return whether a command of `dvc.yaml` is `python -m stages.<name> ...` and needs no shell."""
    return isinstance(command, str) and command.startswith(STAGE) and not SHELL_SIGNS & set(command)


def run_stage(command: str, environment: Mapping[str, str], output: Path | None = None) -> int:
    """Run the command of a stage in the current folder; return its exit status, negative for a signal that ended it.

    Args:
        command: for which `is_stage`.
        environment: of the stage.
        output: the file that gets what it prints; None for stdout and stderr of this process.
    """
    if PRELOADED and sys.platform == "linux":
        return _run_forked(command, environment, output)
    with ExitStack() as stack:
        file = stack.enter_context(output.open("ab")) if output else None
        return subprocess.run(  # noqa: S603 (dvc.yaml's own command)
            shlex.split(command), env=dict(environment), check=False, stdout=file, stderr=file
        ).returncode


def _run_forked(command: str, environment: Mapping[str, str], output: Path | None) -> int:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with _children:
        process = context.Process(target=_become, args=(shlex.split(command)[2:], dict(environment), output))
        process.start()

    wait([process.sentinel])
    with _children:
        process.join()
        status = process.exitcode
        process.close()
    return 1 if status is None else status


def _become(arguments: list[str], environment: Mapping[str, str], output: Path | None) -> None:
    """Run `python -m <arguments>` in this process, which is the fork."""
    try:
        _run_module(arguments, environment, output)
    except KeyboardInterrupt:  # before the stage handles it; `multiprocessing` would print a traceback
        sys.exit(INTERRUPTED)


def _run_module(arguments: list[str], environment: Mapping[str, str], output: Path | None) -> None:
    """Take over the output, the environment and the arguments of the program, and run it."""
    if output:
        with output.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    _limit_threads(environment.get(THREADS, ""))

    sys.argv = arguments
    sys.modules.pop(arguments[0], None)  # the server has imported it under this name, not as `__main__`
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def _limit_threads(count: str) -> None:
    """Let torch and NumPy use `count` threads; they read the variable when they were imported."""
    if count.isdecimal():
        import threadpoolctl
        import torch

        torch.set_num_threads(int(count))
        threadpoolctl.threadpool_limits(int(count))
