"""What a training loop says while it runs: a row an epoch, kept as `log.csv` and shown as progress.

A method's `fit` has no argument for it: the loop that all of them share, `training.descend`, calls `tell`, and whoever
fits listens with `told`. Without a listener a row goes nowhere, as in a notebook.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import IO, Any

from features.runtime.progress import Progress

Row = Mapping[str, float]
Listener = Callable[[int, Row], None]  # epochs in all, and what one gave
DIGITS = 6  # significant ones in the file: what lies beyond differs by machine

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def report_epoch(row: Row, epochs: int) -> None:
    """Say how an epoch of `epochs` ended: its number `epoch`, from 1, and what was measured."""
    if listener := _listener.get():
        listener(epochs, row)


@contextmanager
def log_epochs_to(listener: Listener) -> Iterator[None]:
    """Have `listener` called with each row that is told inside."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class TrainingLog:
    """`log.csv`: a row a seed and epoch, on disk as soon as it is known, so that a run can be watched.

    There is no file where nothing was told: a method without epochs has no curve.
    """

    def __init__(self, path: Path, label: str, seeds: int) -> None:
        """`label` names the run in the progress line; `seeds` is how many will be fitted."""
        self._path, self._label, self._seeds = path, label, seeds
        self._file: IO[str] | None = None
        self._writer: csv.DictWriter[str] | None = None
        self._progress: Progress | None = None

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._progress is not None:
            self._progress.__exit__(*error)
        if self._file is not None:
            self._file.close()

    def of(self, seed: int) -> Listener:
        """What keeps rows as this seed's."""
        return partial(self._take, seed)

    def _take(self, seed: int, epochs: int, row: Row) -> None:
        if self._progress is None or self._writer is None or self._file is None:
            self._progress = Progress(self._label, self._seeds * epochs, unit="epochs").__enter__()
            self._file = self._path.open("w", newline="", encoding="utf-8")
            self._writer = csv.DictWriter(self._file, ["seed", *row], lineterminator="\n")
            self._writer.writeheader()
        values = {name: value if name == "epoch" else float(f"{value:.{DIGITS}g}") for name, value in row.items()}
        self._writer.writerow({"seed": seed, **values})
        self._file.flush()
        measured = next((f"{name} {value:.4g}" for name, value in row.items() if name != "epoch"), "")
        self._progress.advance(note=f"seed {seed}, {measured}")
