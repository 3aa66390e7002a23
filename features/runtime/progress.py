"""How far a long job is, how fast it goes and how long it will take: a live line on a terminal, its last one in a log.

`rich` draws the line; it honours NO_COLOR and terminals that can do little.
"""

from __future__ import annotations

import os
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

VERBOSITY = "SHIPYARD_VERBOSITY"  # quiet | normal | verbose: how `shipyard run -q` reaches the stages through DVC
REFRESH = 0.25  # seconds between two states of the line


def quiet() -> bool:
    """Whether errors alone are to be printed."""
    return os.environ.get(VERBOSITY) == "quiet"


def verbose() -> bool:
    """Whether a log is to hold every step, not the last one alone."""
    return os.environ.get(VERBOSITY) == "verbose"


class Progress:
    """Units done of a total, on stderr. A context: left by an error or Ctrl-C, it gives the terminal back as it was."""

    def __init__(self, label: str, total: int, *, unit: str = "images", done: int = 0) -> None:
        """`done` are units that an earlier run finished; the rate leaves them out."""
        self.label, self.total, self.unit, self.done, self._before = label, total, unit, done, done
        self._console = Console(stderr=True, quiet=quiet(), highlight=False, soft_wrap=True)
        columns = "{task.description}", BarColumn(), "{task.fields[said]}", TimeRemainingColumn(compact=True), "left"
        self._bar = Bar(
            *(TextColumn(c, markup=False) if isinstance(c, str) else c for c in columns),
            console=self._console,
            auto_refresh=False,  # no thread of its own: the decoders are forked
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(label, total=total, completed=done, said="")
        self._start = self._shown = time.monotonic()

    def __enter__(self) -> Progress:
        if self.done:
            self._console.print(f"{self.label}: {self.done:,} of {self.total:,} {self.unit} kept from before")
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._bar.stop()
        if kind is None:
            self._console.print(self._summary())

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count units; the line changes at most four times a second."""
        self.done += count
        now = time.monotonic()
        if verbose() and note:
            self._console.print(f"{self.label}: {self.done:,}/{self.total:,} {self.unit}, {note}")
        if now - self._shown > REFRESH or self.done == self.total:
            self._shown = now
            said = f"{self.done:,}/{self.total:,} {self.unit}, {self.rate:.1f}/s{', ' if note else ''}{note}"
            self._bar.update(self._task, completed=self.done, said=said, refresh=True)

    @property
    def rate(self) -> float:
        """Units a second since the start."""
        return (self.done - self._before) / max(time.monotonic() - self._start, 1e-9)

    def _summary(self) -> str:
        new = self.done - self._before
        took = f"{new:,} in {clock(time.monotonic() - self._start)}, {self.rate:.1f} {self.unit}/s"
        return f"{self.label}: {self.total:,} {self.unit}, {took if new else 'none is new'}"


def clock(seconds: float) -> str:
    """Seconds as 0:07, 12:30 or 1:02:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
