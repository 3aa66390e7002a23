"""Whether the files that a prediction reads were made from one another.

A run that is at work, or was ended, replaces them one by one: a new classifier may stand beside the selection of the
old one, whose offset and temperature would be wrong for it. `dvc.lock` says of what each was made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from features.errors import InputError
from pipeline.artifacts.paths import TaskPaths
from pipeline.executor.damage import md5_of
from pipeline.executor.repository import LOCK, read_lock_file, run_at_work

KINDS = {"tasks", "fitted", "validation"}  # folders of the artifacts that are compared: small, and made per task
Stat = tuple[int, int, int]  # of a file: when it was changed (ns), its size, its inode


@contextmanager
def run_named_in_errors() -> Iterator[None]:
    """Add to an error inside the block which run is at work, if one is: it may be its cause."""
    try:
        yield
    except InputError as error:
        if worker := run_at_work():
            raise InputError(f"{error}\nA run is at work here ({worker}); wait until it ends.") from error
        raise


@contextmanager
def one_lineage(cell: TaskPaths, run: str) -> Iterator[None]:
    """Check that the selection, the classifier and the task of a run belong together, and stay so inside the block.

    Without a `dvc.lock`, as in a copy of the artifacts, only the second is checked.

    Raises:
        InputError: they do not; what was made of another state is named.
    """
    before = _state(cell, run)
    if LOCK.is_file():
        _check(cell, run)
    yield
    if _state(cell, run) != before:
        raise InputError(f"the results of {cell.task} were replaced while they were read; try again")


def _check(cell: TaskPaths, run: str) -> None:
    entries = list(read_lock_file()["stages"].values())
    made_of_another = [
        f"{output} was made of another {dep}"
        for output in (cell.selection, cell.validation_logits(run), cell.fitted(run))
        for dep, md5 in _deps(entries, output).items()
        if Path(dep).exists() and md5_of(Path(dep)) != md5
    ]
    if made_of_another:
        reasons = "".join(f"\n  - {reason}" for reason in made_of_another)
        raise InputError(f"the results of {cell.task} do not belong together; run `shipyard run` again:{reasons}")


def _deps(entries: list[Mapping[str, Any]], output: Path) -> dict[str, str]:
    """Return the recorded md5 of each file and folder of the task that an output was made of; none of a missing one."""
    makers = [entry for entry in entries if any(out["path"] == output.as_posix() for out in entry.get("outs", ()))]
    deps = [dep for entry in makers for dep in entry.get("deps", ()) if output.exists()]
    return {dep["path"]: dep["md5"].removesuffix(".dir") for dep in deps if KINDS & set(Path(dep["path"]).parts)}


def _state(cell: TaskPaths, run: str) -> dict[Path, Stat]:
    files = [cell.selection, cell.test, *cell.fitted(run).glob("*")]
    states = {file: file.stat() for file in files if file.is_file()}
    return {file: (state.st_mtime_ns, state.st_size, state.st_ino) for file, state in states.items()}
