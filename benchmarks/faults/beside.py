"""Start a second program in a repository while a first one is at work."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.faults.runs import COLD, Run, after_a_rerun, slow_disk, some_stages, undo
from benchmarks.faults.workspace import Row, Workspace
from pipeline.executor.repository import PATH_LOCKS, RUN_OWNER

RUN = [*COLD, "run"]
REPRO = [sys.executable, "-m", "dvc", "repro"]
REFUSED = "another run is at work in this repository"  # by `shipyard run`
BUSY = ("is busy", "acquire lock")  # by DVC


@dataclass(frozen=True)
class Pair:
    """Two programs.

    Attributes:
        name: of the row.
        first: command.
        at_work: whether it is.
        second: command that is started then.
        refusals: of which one stands in the output of a program that fails.
    """

    name: str
    first: list[str]
    at_work: Callable[[], bool]
    second: list[str]
    refusals: tuple[str, ...]


def rows(space: Workspace, times: int) -> Iterator[Row]:
    """Yield a row per pair: the second waits or is refused with a plain error, and the first is not disturbed."""
    running = (space.repo / RUN_OWNER).exists  # from when the run holds its lock
    locking = partial(_locks_paths, space.repo / PATH_LOCKS)
    yield _beside(space, Pair("`shipyard run` during a `shipyard run`", RUN, running, RUN, (REFUSED,)), times)
    yield _beside(space, Pair("`dvc repro` during a `shipyard run`", RUN, running, REPRO, BUSY), times)
    yield _beside(space, Pair("`shipyard run` during a `dvc repro`", REPRO, locking, RUN, ()), times)


def _locks_paths(file: Path) -> bool:
    """Return whether a DVC is at work on a stage."""
    try:
        return bool(json.loads(file.read_text(encoding="utf-8")).get("write"))
    except (OSError, ValueError):  # DVC writes it in place
        return False


def _beside(space: Workspace, pair: Pair, times: int) -> Row:
    rng = random.Random(0)  # noqa: S311 (stages, not secrets)
    tries, refused, wrong = max(1, times // 2), 0, []
    for _ in range(tries):
        undo(space, some_stages(space, rng))
        (space.repo / RUN_OWNER).unlink(missing_ok=True)
        first = Run(space, pair.first, **slow_disk(space))
        first.wait_until(pair.at_work)
        second = Run(space, pair.second, **slow_disk(space))
        ends = [first.end(), second.end()]
        refused += ends[1].status != 0
        for end in ends:
            plain = any(word in end.output for word in pair.refusals)
            if end.complaint() or (end.status and not plain):
                wrong.append(f"no plain error: {end.tail()}")
        if ends[0].status and ends[1].status:
            wrong.append(f"both failed: {ends[0].tail()}")
        if text := after_a_rerun(space):
            wrong.append(text)
    outcome = f"{refused} were refused with a plain error, the others waited or had nothing to do; same bytes"
    return Row(pair.name, tries, outcome, wrong[0] if wrong else "")
