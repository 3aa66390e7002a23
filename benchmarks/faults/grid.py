"""Kill the driver, a worker or a node of a grid with `kill -9` at random moments, then run it again."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from typing import Any

import psutil

from benchmarks.faults.runs import COLD, Run, after_a_rerun, inspect, is_stage, slow_disk, undo
from benchmarks.faults.workspace import Row, Workspace
from pipeline.executor.cells import SHARED
from pipeline.executor.repository import CELLS

JOBS = ["run", "--jobs", "2"]
RAY = ["run", "--engine", "ray"]
NODE = {"num_cpus": 1, "include_dashboard": False}
Kill = Callable[[Run, random.Random], str]  # kills something; returns what stands in the run's output then if it fails


def rows(space: Workspace, times: int) -> Iterator[Row]:
    """Yield a row per kind of process: all cells of the grid are to do, and a rerun gives the bytes of no kill."""
    tries = max(1, times // 3)
    start = partial(Run, space, COLD, *JOBS, **slow_disk(space))
    yield _killed(space, "the driver of `shipyard run --jobs 2`", start, _kill_driver, tries)
    yield _killed(space, "a worker of `shipyard run --jobs 2`", start, _kill_worker, tries)

    what = "one of two nodes of `shipyard run --engine ray`"
    if find_spec("ray") is None:
        yield Row(f"`kill -9` of {what}", 0, "not tried: Ray is not installed")
        return
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        on_ray = partial(Run, space, COLD, *RAY, RAY_ADDRESS=cluster.address)
        yield _killed(space, what, on_ray, _NodeKiller(cluster), tries)
    finally:
        cluster.shutdown()


def _killed(space: Workspace, what: str, start: Callable[[], Run], kill: Kill, tries: int) -> Row:
    rng, met, failed, wrong = random.Random(0), 0, 0, []  # noqa: S311 (moments, not secrets)
    cells = [stage for stage in space.stages() if stage.kind not in SHARED]
    took = 0.0
    for number in range(tries + 1):
        undo(space, cells)
        run = start()
        run.wait_until(lambda: any((space.repo / out).exists() for stage in cells for out in stage.outs))
        began = time.monotonic()
        if number == 0:  # undisturbed, from the first output of a cell
            run.end()
            took = time.monotonic() - began
            continue

        limit = began + rng.uniform(0, took)
        run.wait_until(lambda limit=limit: time.monotonic() > limit)  # type: ignore[misc]
        met += run.process.poll() is None
        word = kill(run, rng)
        end, survivors = run.end(), run.survivors()
        failed += end.status != 0
        if text := end.complaint() or inspect(space):
            wrong.append(text)
        if end.status and word not in end.output:
            wrong.append(f"no plain error: {end.tail()}")
        wrong += [f"{name} did not end" for name in survivors]
        if text := after_a_rerun(space):
            wrong.append(text)
    outcome = f"{met} met a run at work; {failed} of these ended, the others went on; a rerun gives the same bytes"
    return Row(f"`kill -9` of {what}", tries, outcome, wrong[0] if wrong else "")


def _kill_driver(run: Run, _rng: random.Random) -> str:
    for process in run.look():
        with suppress(psutil.Error):
            if CELLS in process.cmdline():
                process.kill()
    return "the pipeline is not up to date"


def _kill_worker(run: Run, rng: random.Random) -> str:
    workers: list[psutil.Process] = []
    while not workers and run.process.poll() is None:
        workers = [process for process in run.look() if is_stage(process)]
    with suppress(psutil.Error, IndexError):
        rng.choice(workers).send_signal(signal.SIGKILL)
    return "failed: "


class _NodeKiller:
    """Kills the second node of a cluster, and starts another for the next run."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.second = cluster.add_node(**NODE)

    def __call__(self, _run: Run, _rng: random.Random) -> str:
        self.cluster.remove_node(self.second, allow_graceful=False)
        self.second = self.cluster.add_node(**NODE)
        return "was lost over"
