"""What a fit reports: one row per epoch, written to `log.csv` and shown as progress, and the settings that it searched.

`Method.fit` has no parameter for it. The loop that all methods share (`pipeline.training.loop.descend`) calls
`report_epoch`, and the stage receives the rows by `log_epochs_to`. Without a callback rows are dropped, as in a
notebook. `report_search` and `log_searches_to` are the same for values that were selected on validation images.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from features.runtime.progress import Progress

Row = Mapping[str, float]
LogCallback = Callable[[int, Row], None]  # the number of epochs of the run, and the row of one
DIGITS = 6  # significant digits in the file; those beyond differ by machine


@dataclass(frozen=True)
class Search:
    """A setting that was selected on validation images.

    Attributes:
        setting: its name, such as `alpha`.
        value: the selected value.
        lowest: the lowest value that was tried.
        highest: the highest value that was tried.
    """

    setting: str
    value: float
    lowest: float
    highest: float

    @property
    def at_edge(self) -> bool:
        """Return whether the value is at an end of the range, so that one beyond it may be better."""
        return self.lowest < self.highest and self.value in (self.lowest, self.highest)


SearchCallback = Callable[[Search], None]

_callback: ContextVar[LogCallback | None] = ContextVar("log callback", default=None)
_search_callback: ContextVar[SearchCallback | None] = ContextVar("search callback", default=None)


def report_epoch(row: Row, epochs: int) -> None:
    """Pass on the row of an epoch: its number `epoch`, from 1 to `epochs`, and what was measured."""
    if callback := _callback.get():
        callback(epochs, row)


@contextmanager
def log_epochs_to(callback: LogCallback) -> Iterator[None]:
    """Call `callback` with each row that is reported inside the context."""
    token = _callback.set(callback)
    try:
        yield
    finally:
        _callback.reset(token)


def report_search(search: Search) -> None:
    """Pass on a setting that was selected on validation images."""
    if callback := _search_callback.get():
        callback(search)


@contextmanager
def log_searches_to(callback: SearchCallback) -> Iterator[None]:
    """Call `callback` with each search that is reported inside the context."""
    token = _search_callback.set(callback)
    try:
        yield
    finally:
        _search_callback.reset(token)


class TrainingLog:
    """The file `log.csv`, with a row per seed and epoch.

    A row is on disk as soon as it is reported, so that a run can be watched. A method without epochs reports nothing,
    and then there is no file.
    """

    def __init__(self, path: Path, label: str, seeds: int) -> None:
        """Prepare the log.

        Args:
            path: the file to write.
            label: name of the run in the progress line.
            seeds: number of seeds that will be fitted.
        """
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

    def of(self, seed: int) -> LogCallback:
        """Return the callback that writes rows of this seed."""
        return partial(self._write, seed)

    def _write(self, seed: int, epochs: int, row: Row) -> None:
        # The first row decides the columns and opens the file.
        if self._progress is None or self._writer is None or self._file is None:
            self._progress = Progress(self._label, self._seeds * epochs, unit="epoch").__enter__()
            self._file = self._path.open("w", newline="", encoding="utf-8")
            self._writer = csv.DictWriter(self._file, ["seed", *row], lineterminator="\n")
            self._writer.writeheader()

        values = {name: value if name == "epoch" else float(f"{value:.{DIGITS}g}") for name, value in row.items()}
        self._writer.writerow({"seed": seed, **values})
        self._file.flush()

        first_measure = next((f"{name} {value:.4g}" for name, value in row.items() if name != "epoch"), "")
        self._progress.advance(note=f"seed {seed}, {first_measure}")
