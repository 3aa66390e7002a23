"""End a whole `shipyard run`, or one of its processes, by a signal, then run it again."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from itertools import product

from benchmarks.faults.runs import (
    COLD,
    PATIENCE,
    Run,
    after_a_rerun,
    changes,
    inspect,
    is_stage,
    slow_disk,
    some_stages,
    undo,
)
from benchmarks.faults.workspace import Row, Workspace

TARGETS = {"group": "all its processes", "parent": "its first process alone", "child": "one process below it alone"}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LATE = 0.3  # seconds: the most that a signal comes after dvc.lock was written, in the moment between two stages


def rows(space: Workspace, times: int) -> Iterator[Row]:
    """Yield a row per target and signal; half of the signals come at random moments, half between two stages."""
    rng = random.Random(0)  # noqa: S311 (moments, not secrets)
    took = _undisturbed(space, rng)
    for target, kind in product(TARGETS, SIGNALS):
        tries = max(1, times // 5)
        ends = [_ended(space, target, kind, took, between=number % 2 == 1, rng=rng) for number in range(tries)]
        wrong = [text for text, _ in ends if text]
        at_work = sum(worked for _, worked in ends)
        outcome = f"the next run goes on; same bytes; {at_work} came while a stage was at work"
        yield Row(f"{kind.name} to {TARGETS[target]}", tries, outcome, wrong[0] if wrong else "")


def _undisturbed(space: Workspace, rng: random.Random) -> float:
    """Return how many seconds a run takes."""
    undo(space, some_stages(space, rng))
    began = time.monotonic()
    end = Run(space, COLD, "run", **slow_disk(space)).end()
    if end.status or not space.whole():
        raise AssertionError(f"an undisturbed run gives other bytes: {end.tail()}")
    return time.monotonic() - began


def _ended(
    space: Workspace, target: str, kind: signal.Signals, took: float, *, between: bool, rng: random.Random
) -> tuple[str, bool]:
    """Return what is wrong after the signal, and whether a stage was at work when it came."""
    undo(space, some_stages(space, rng))
    run = Run(space, COLD, "run", **slow_disk(space))
    if between:
        run.wait_until(changes(space.repo / "dvc.lock"))
        moment = rng.uniform(0, LATE)
    else:
        moment = rng.uniform(0.2, 1) * took
    limit = time.monotonic() + moment
    run.wait_until(lambda: time.monotonic() > limit)

    at_work = any(is_stage(process) for process in run.look())
    run.send(target, kind, rng)
    run.wait_until(lambda: time.monotonic() > limit + PATIENCE)
    if run.process.poll() is None and target != "child":
        run.process.kill()
        return f"still at work {PATIENCE} s after the signal", at_work
    end, survivors = run.end(), run.survivors()

    wrong = end.complaint() or inspect(space)
    if survivors:
        wrong = f"{survivors[0]} did not end"
    again = after_a_rerun(space)  # in any case, because the next trial begins with what this one leaves
    return wrong or again, at_work
