"""Start a second program in a repository while a `shipyard run` is at work."""

from __future__ import annotations

import random
from collections.abc import Iterator

from benchmarks.faults.runs import WARM, Run, after_a_rerun, some_stages, undo
from benchmarks.faults.workspace import Row, Workspace
from pipeline.executor.repository import RUN_OWNER


def rows(space: Workspace, times: int) -> Iterator[Row]:
    """Yield a row per program: it waits or is refused with a plain error, and the first run is not disturbed."""
    run = "another run is at work in this repository"
    yield _beside(space, "`shipyard run`", [*WARM, "run"], (run,), times)
    yield _beside(space, "`dvc repro`", ["dvc", "repro"], ("is busy", "acquire lock"), times)


def _beside(space: Workspace, what: str, command: list[str], refusals: tuple[str, ...], times: int) -> Row:
    rng = random.Random(0)  # noqa: S311 (stages, not secrets)
    owner = space.repo / RUN_OWNER  # written once the run holds its lock
    tries, refused, wrong = max(1, times // 5), 0, []
    for _ in range(tries):
        undo(space, some_stages(space, rng))
        owner.unlink(missing_ok=True)
        first = Run(space, WARM, "run")
        first.wait_until(owner.exists)
        second = Run(space, command)
        ends = [first.end(), second.end()]
        refused += ends[1].status != 0
        for end in ends:
            plain = any(word in end.output for word in refusals)
            if end.complaint() or (end.status and not plain):
                wrong.append(f"no plain error: {end.tail()}")
        if ends[0].status and ends[1].status:
            wrong.append(f"both failed: {ends[0].tail()}")
        if text := after_a_rerun(space):
            wrong.append(text)
    outcome = f"one goes on, the other waits or ends with a plain error ({refused}); same bytes"
    return Row(f"{what} during a `shipyard run`", tries, outcome, wrong[0] if wrong else "")
