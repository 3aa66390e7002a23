"""Run the cells of the grid (one instance of a stage each) in parallel on one machine.

DVC locks the paths that a stage reads and writes, and a second `dvc repro` that meets such a lock fails at once. A cell
therefore starts when everything that it depends on is done: no other process writes what it reads. For the short
moments in which DVC locks the whole repository, `--wait-for-lock` waits.
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

# Run one at a time: there are few of them, and extraction uses all cores.
SHARED = ("code", "index", "extract", "text_tower", "classes", "build_task")
THREADS = "OMP_NUM_THREADS"

CellProcess = subprocess.CompletedProcess[str]


def repro_parallel(jobs: int) -> None:
    """Bring the pipeline up to date: the stages that cells share first, then `jobs` cells at a time.

    Each cell gets an equal share of the cores.

    Raises:
        InputError: cells failed. Their output is printed, and every cell that does not depend on them is complete.
        SystemExit: 130, after Ctrl-C, when the running cells have ended.
    """
    repro(SHARED)

    order = TopologicalSorter(_dependencies())
    order.prepare()
    ready = deque(order.get_ready())
    running: dict[Future[CellProcess], str] = {}
    failed: list[str] = []

    with ThreadPoolExecutor(jobs) as pool:
        try:
            while ready or running:
                while ready and len(running) < jobs:
                    cell = ready.popleft()
                    running[pool.submit(_repro_cell, cell, jobs)] = cell

                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    cell = running.pop(future)
                    process = future.result()
                    print(process.stdout, end="", flush=True)
                    # A failed cell is never marked as done, so no cell that depends on it becomes ready.
                    if process.returncode:
                        failed.append(cell)
                    else:
                        order.done(cell)
                ready.extend(order.get_ready())
        except KeyboardInterrupt:
            # The terminal has sent Ctrl-C to the running cells too; leaving the pool waits for them.
            sys.exit(INTERRUPTED)

    if failed:
        raise InputError(
            f"{', '.join(failed)} failed; see the errors above. Everything that does not depend on them is complete: "
            "`shipyard run` continues after the fix"
        )


def _dependencies() -> dict[str, set[str]]:
    """Return cell -> the cells that it waits for, by DVC's names; without the shared stages, which are done."""
    from dvc.repo import Repo

    with Repo() as repo:
        graph = repo.index.graph
        dependencies = {stage.addressing: {other.addressing for other in graph.successors(stage)} for stage in graph}

    shared = {name for name in dependencies if name.partition("@")[0] in SHARED}
    return {name: others - shared for name, others in dependencies.items() if name not in shared}


def _repro_cell(cell: str, jobs: int) -> CellProcess:
    """Run one cell and capture its output, so that the outputs of parallel cells do not mix."""
    command = dvc_command("--wait-for-lock", "repro", *(["--quiet"] if quiet() else []), "--single-item", cell)
    env = {THREADS: str(max(1, cores() // jobs)), **dvc_environment()}
    return subprocess.run(  # noqa: S603 (names of our own stages)
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
