"""The cells of the grid side by side on one machine.

DVC locks the paths that a stage reads and writes, and another `dvc repro` that meets such a lock fails at once. So a
stage starts here once all that it depends on is done, for then nobody writes what it reads. Where DVC locks the whole
repository, which takes moments, `--wait-for-lock` waits.
"""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter

from features.errors import InputError
from features.runtime.devices import cores
from features.runtime.interruption import INTERRUPTED
from features.runtime.progress import quiet
from pipeline.executor.repro import dvc_command, dvc_environment, repro

SHARED = ("index", "extract", "text_tower", "classes", "build_task")  # one at a time, for extraction takes all cores
THREADS = "OMP_NUM_THREADS"

Ended = subprocess.CompletedProcess[str]


def repro_parallel(jobs: int) -> None:
    """Bring the pipeline up to date: what cells share first, then `jobs` cells at a time, the cores dealt out to them.

    Raises:
        InputError: stages failed; what they said is printed, and all that does not depend on them is done.
        SystemExit: 130, interrupted, after the cells at work have ended.
    """
    repro(SHARED)
    order = TopologicalSorter(_needs())
    order.prepare()
    ready = deque(order.get_ready())
    working: dict[Future[Ended], str] = {}
    failed: list[str] = []
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while ready or working:
                while ready and len(working) < jobs:
                    cell = ready.popleft()
                    working[pool.submit(_repro_one, cell, jobs)] = cell
                for future in wait(working, return_when=FIRST_COMPLETED).done:
                    cell, ended = working.pop(future), future.result()
                    print(ended.stdout, end="", flush=True)
                    if ended.returncode:
                        failed.append(cell)
                    else:
                        order.done(cell)
                ready.extend(order.get_ready())
        except KeyboardInterrupt:  # the terminal has told the cells at work, too, and the pool waits for them
            sys.exit(INTERRUPTED)
    if failed:
        raise InputError(
            f"{', '.join(failed)} failed; the errors above say why. What does not depend on them is complete: "
            "`shipyard run` goes on from there"
        )


def _needs() -> dict[str, set[str]]:
    """What each cell has to wait for, by DVC's names; what is shared is there already."""
    from dvc.repo import Repo

    with Repo() as repo:
        graph = repo.index.graph
        needs = {stage.addressing: {other.addressing for other in graph.successors(stage)} for stage in graph}
    shared = {name for name in needs if name.partition("@")[0] in SHARED}
    return {name: others - shared for name, others in needs.items() if name not in shared}


def _repro_one(cell: str, jobs: int) -> Ended:
    """Run one cell, and keep what it says, so that no two are mixed."""
    command = dvc_command("--wait-for-lock", "repro", *(["--quiet"] if quiet() else []), "--single-item", cell)
    env = {THREADS: str(max(1, cores() // jobs)), **dvc_environment()}
    return subprocess.run(  # noqa: S603 (names of our own stages)
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
