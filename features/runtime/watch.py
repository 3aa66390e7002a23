"""End this process when the program that started the run is gone.

Ctrl-C reaches every process of a terminal. A kill, by a supervisor or by the kernel when memory is short, may reach one
process alone; DVC and its stage would then go on and keep the repository locked. Each program of a run
therefore writes its process into the environment and watches those of the programs above it.
"""

from __future__ import annotations

import os
import signal
import threading
import time

VARIABLE = "SHIPYARD_PROCESSES"  # process ids of the programs above: `12,17`
SECONDS = 0.5  # between two looks
PATIENCE = 10.0  # seconds that an interrupted process may take to clean up
GONE_AFTER = SECONDS + PATIENCE + 1  # seconds after which no process of a run that was killed is left


def watched_environment() -> dict[str, str]:
    """Return this process's environment, with the process itself among those that its children watch."""
    above = os.environ.get(VARIABLE)
    own = str(os.getpid())
    return {**os.environ, VARIABLE: f"{above},{own}" if above else own}


def end_with_the_run() -> None:
    """Start a thread that interrupts this process, as Ctrl-C does, when a program above it in the run is gone.

    A process that does not end within `PATIENCE` of that is killed.
    """
    if above := os.environ.get(VARIABLE):
        pids = [int(pid) for pid in above.split(",")]
        threading.Thread(target=_watch, args=(pids,), daemon=True, name="watch").start()


def _watch(pids: list[int]) -> None:
    import psutil  # noqa: PLC0415 (a stage that is run by hand watches nothing)

    # A Process stands for one process, also when the system's clock is set or the id is used again.
    try:
        processes = [psutil.Process(pid) for pid in pids]
        while all(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes):
            time.sleep(SECONDS)
    except psutil.NoSuchProcess:
        pass

    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(PATIENCE)
    os.kill(os.getpid(), signal.SIGKILL)
