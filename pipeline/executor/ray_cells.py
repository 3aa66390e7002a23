"""Run the commands of cells as tasks of a Ray cluster whose nodes share the project's folder.

A task runs a command as a run on one machine does (`stage_process`), so its outputs have the same bytes. Ray gives each
task its share of CPUs and GPUs. The cells of a lost node are run again on another one. DVC runs on the driver alone.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from features.errors import InputError
from features.runtime.interruption import INTERRUPTED
from features.runtime.progress import VERBOSITY
from features.runtime.ray_cluster import ray_cluster
from features.runtime.watch import GONE_AFTER, watched_environment
from pipeline.config.params import Compute
from pipeline.executor import stage_process
from pipeline.executor.engines import Engine
from pipeline.executor.stage_process import THREADS

LOSSES = 3  # processes and nodes that may be lost over one cell before the cell itself is taken to be the cause


@contextmanager
def open_ray(compute: Compute, jobs: int | None) -> Iterator[Engine]:
    """Yield the engine of a Ray cluster.

    Args:
        compute: `cell_cpus` and `cell_gpus` are what a cell takes; GPUs only with `device: cuda`, or with `auto` and a
            cluster that has some.
        jobs: most cells at a time; None for all that fit.

    Raises:
        InputError: there is no cluster, or not a single cell fits it.
    """
    with ray_cluster("--engine") as ray:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        has_gpu = any(node.get("GPU", 0) >= 1 for node in nodes)
        gpus = compute.cell_gpus if compute.device == "cuda" or (compute.device == "auto" and has_gpu) else 0.0
        fitting = cells_that_fit(nodes, compute.cell_cpus, gpus)

        # A task with a GPU would get a process of its own, for the memory that a process may keep; ours keeps none.
        remote = ray.remote(num_cpus=compute.cell_cpus, num_gpus=gpus, max_retries=0, max_calls=0)(run_on_node)
        tasks = _Tasks(ray, remote)
        yield Engine(min(jobs or fitting, fitting), compute.cell_cpus, tasks.run, tasks.cancel)


def cells_that_fit(nodes: Sequence[Mapping[str, float]], cpus: int, gpus: float) -> int:
    """Return how many cells with these CPUs and this share of a GPU can run at a time; `nodes` are their resources.

    Raises:
        InputError: not a single one.
    """
    by_gpu = int(1 / gpus + 1e-9) if gpus else 0  # cells that share a GPU
    fitting = 0
    for node in nodes:
        by_cpus = int(node.get("CPU", 0) // cpus)
        fitting += min(by_cpus, int(node.get("GPU", 0)) * by_gpu) if gpus else by_cpus
    if not fitting:
        have = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise InputError(
            f"a cell needs {cpus} CPUs (compute.cell_cpus) and {gpus:g} GPUs (compute.cell_gpus), and no node of the "
            f"Ray cluster has them ({have}): start the nodes first, lower these settings, or set compute.device to cpu"
        )
    return fitting


@dataclass
class _Tasks:
    """The commands at work on the cluster; each is waited for by a thread of its own."""

    ray: Any
    remote: Any
    working: set[Any] = field(default_factory=set)
    cancelled: bool = False

    def run(self, command: str, environment: Mapping[str, str], output: Path | None = None) -> int:
        """Run a command on a node, as `stage_process.run_stage` does here; the environment is that of the node."""
        passed = {name: environment[name] for name in (VERBOSITY, THREADS) if name in environment}
        for losses in range(1, LOSSES + 1):
            status, printed = self._attempt(command, passed)
            if status is not None:
                break
            print(f"note: a Ray process or node was lost over `{command}`: {printed.decode()}", file=sys.stderr)
            if losses < LOSSES:
                time.sleep(GONE_AFTER)  # until its stage is gone, too, and cannot write beside the next one

        if output:
            output.write_bytes(printed)
        else:
            sys.stdout.buffer.write(printed)
            sys.stdout.flush()
        return 1 if status is None else status

    def _attempt(self, command: str, passed: Mapping[str, str]) -> tuple[int | None, bytes]:
        """Return the exit status of a command and what it printed; None and the reason if it was lost."""
        if self.cancelled:
            return INTERRUPTED, b""
        errors = self.ray.exceptions
        task = self.remote.remote(str(Path.cwd()), command, passed)
        self.working.add(task)
        try:
            status, printed = self.ray.get(task)
        except errors.TaskCancelledError:
            return INTERRUPTED, b""
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError, errors.ObjectLostError) as e:
            return None, str(e).strip().partition(". ")[0].encode()
        finally:
            self.working.discard(task)
        return int(status), bytes(printed)

    def cancel(self) -> None:
        """End the tasks at work; their stages notice it within a second and clean up."""
        self.cancelled = True
        for task in list(self.working):
            self.ray.cancel(task, force=True)


def run_on_node(root: str, command: str, passed: Mapping[str, str]) -> tuple[int, bytes]:
    """Run the command of a stage on the node of a task; return its exit status and what it printed.

    Args:
        root: the project's folder.
        command: `python -m stages.<name> ...`.
        passed: variables of the driver's environment. The rest is the node's, with the GPU that Ray chose.
    """
    os.chdir(root)
    stage_process.PRELOADED[:] = ["__main__", "stages.preloaded"]  # forks know the main module, which imports Ray
    with TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        status = stage_process.run_stage(command, {**watched_environment(), **passed}, output)
        return status, output.read_bytes() if output.exists() else b""
