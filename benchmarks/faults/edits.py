"""Edit params.yaml at random moments of a `shipyard run`, then run again with the new values, and with the old ones."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from benchmarks.faults.runs import WARM, Run, after_a_rerun, finished_run, undo
from benchmarks.faults.workspace import Row, Workspace

KEY, OLD, NEW = "methods.coop.epochs", 2, 3
TOUCHED = ("fit", "evaluate", "fit_synthetic", "evaluate_synthetic", "report")  # the stages whose outputs it changes


def rows(space: Workspace, times: int) -> Iterator[Row]:
    """Yield a row: after each edit the outputs are those of the values that stand in params.yaml."""
    rng = random.Random(0)  # noqa: S311 (moments, not secrets)
    params = space.repo / "params.yaml"
    texts = {
        OLD: params.read_bytes(),
        NEW: params.read_bytes().replace(b"coop:\n    epochs: 2", b"coop:\n    epochs: 3"),
    }
    if texts[OLD] == texts[NEW]:
        raise AssertionError(f"params.yaml of the workspace has no {KEY}")

    outputs = {OLD: space.before}
    for value in (NEW, OLD):  # what undisturbed runs give, and how long one takes
        params.write_bytes(texts[value])
        began = time.monotonic()
        finished_run(space)
        took = time.monotonic() - began
        if outputs.setdefault(value, space.now()) != space.now():
            raise AssertionError("two undisturbed runs differ")

    refused, wrong = 0, []
    for number in range(times):
        value = (NEW, OLD)[number % 2]
        undo(space, [stage for stage in space.stages() if stage.kind in TOUCHED])
        run = Run(space, WARM, "run")
        limit = time.monotonic() + rng.uniform(0, took)
        run.wait_until(lambda limit=limit: time.monotonic() > limit)  # type: ignore[misc]
        params.write_bytes(texts[value])
        end = run.end()

        refused += end.status != 0
        if end.status == 0 and space.now() != outputs[value]:
            wrong.append(f"exit status 0 with other bytes: {end.tail()}")
        if (end.status and "params.yaml" not in end.output) or end.complaint():
            wrong.append(f"no plain error: {end.tail()}")
        if text := after_a_rerun(space, whole=lambda value=value: space.now() == outputs[value]):  # type: ignore[misc]
            wrong.append(text)

    params.write_bytes(texts[OLD])
    finished_run(space)
    outcome = f"{refused} refused, with the name of the file; a rerun gives the bytes of the new values"
    yield Row(f"`{KEY}` edited at a random moment of a run", times, outcome, wrong[0] if wrong else "")
