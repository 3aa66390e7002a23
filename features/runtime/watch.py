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

VARIABLE = "SHIPYARD_PROCESSES"  # process ids of the programs above, with their start times: `12:3456.0,17:3460.1`
SECONDS = 0.5  # between two looks


def watched_environment() -> dict[str, str]:
    """Return this process's environment, with the process itself among those that its children watch."""
    above = os.environ.get(VARIABLE, "")
    own = f"{os.getpid()}:{started(os.getpid())}"
    return {**os.environ, VARIABLE: f"{above},{own}" if above else own}


def end_with_the_run() -> None:
    """Start a thread that interrupts this process, as Ctrl-C does, when a program above it in the run is gone.

    A process that does not end within 10 seconds of that is killed.
    """
    processes = [entry.split(":") for entry in os.environ.get(VARIABLE, "").split(",") if ":" in entry]
    if processes:
        watched = [(int(pid), float(start)) for pid, start in processes]
        threading.Thread(target=_watch, args=(watched,), daemon=True, name="watch").start()


def _watch(watched: list[tuple[int, float]]) -> None:
    while all(started(pid) == start for pid, start in watched):
        time.sleep(SECONDS)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)
    os.kill(os.getpid(), signal.SIGKILL)


def started(pid: int) -> float | None:
    """Return when a process was started, which tells it from a later one with the same id; None if it is gone."""
    import psutil  # noqa: PLC0415 (a stage that is run by hand watches nothing)

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time(), 2)
    except psutil.NoSuchProcess:
        return None
