"""Let every file that a stage or a whole run opens fail to open, one file at a time."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from benchmarks.faults.failing_open import LIBRARY
from benchmarks.faults.runs import WARM, End, Run, after_a_rerun, inspect, undo
from benchmarks.faults.workspace import Row, Stage, Workspace

CODE = (".py", ".pyc")  # a program that cannot read its own code cannot say so
GENERIC = 4  # a part of a path that is shorter than this, such as `c/0/0` of a store, names no file; that above it does


def rows(space: Workspace, times: int) -> Iterator[Row]:  # noqa: ARG001 (each file is tried once)
    """Yield a row per kind of stage, and one of a run with a stage to do."""
    if LIBRARY not in os.environ:
        yield Row("a file that cannot be opened", 0, "not tried: no C compiler")
        return

    stages = {stage.kind: stage for stage in reversed(space.stages())}
    for stage in reversed(stages.values()):
        yield _failing(space, f"`{stage.kind}`", stage, ["python", "-m", *stage.arguments])
    yield _failing(space, "`shipyard run`, with `fit` to do", stages["fit"], [*WARM, "run"])


def _failing(space: Workspace, what: str, stage: Stage, command: list[str]) -> Row:
    """Run once to learn which files are opened, then once for each file and error."""
    log = space.repo.parent / "opened"
    listing = {"FAULT_LOG": str(log), "FAULT_ROOT": f"{space.repo}/"}
    undo(space, [stage])
    Run(space, command, **listing).end()
    opened = [line.split(" ", 1) for line in sorted(set(log.read_text(encoding="utf-8").splitlines()))]
    writes = {path for mode, path in opened if mode == "w"}
    faults = [(path, errno.EIO) for _, path in opened] + [(path, errno.ENOSPC) for path in writes]

    tried, wrong = 0, []
    for path, error in sorted(set(faults)):
        if Path(path).suffix in CODE:
            continue
        undo(space, [stage])
        log.unlink(missing_ok=True)
        end = Run(space, command, **listing, FAULT_PATH=path, FAULT_ERRNO=str(error)).end()
        if not log.exists():
            continue  # another name each time, such as a temporary file of a library
        tried += 1
        if text := _handled(space, end, Path(path)):
            wrong.append(f"{errno.errorcode[error]} at {Path(path).relative_to(space.repo)}: {text}")
            print(wrong[-1], flush=True)

    if text := after_a_rerun(space):
        wrong.append(text)
    outcome = "the same bytes, or an error that names the file; a rerun gives the same bytes"
    return Row(f"{what}: a file cannot be opened (EIO, ENOSPC)", tried, outcome, "; ".join(wrong[:1]))


def _handled(space: Workspace, end: End, path: Path) -> str:
    """Return what is wrong with the end of a run for which a file failed; empty if nothing is."""
    if text := end.complaint() or inspect(space):
        return text
    if end.status and not any(name in end.output for name in _names(space, path)):
        return f"no name in the error: {end.tail()}"
    return ""


def _names(space: Workspace, path: Path) -> list[str]:
    """Return what names a file in an error: its own name, and the output that it is a part of."""
    parts = [part.removeprefix(".").removesuffix(".shipyard-part") for part in path.relative_to(space.repo).parts]
    own = next((part for part in reversed(parts) if len(part) >= GENERIC), parts[-1])
    outputs = {Path(name).parts for name in space.outputs}
    return [own, *("/".join(output) for output in outputs if output == tuple(parts[: len(output)]))]
