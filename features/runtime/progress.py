"""Show how far a long job is, how fast it goes and how long it will take.

On a terminal this is a live line, drawn by `rich`, which honours NO_COLOR and simple terminals. A log gets one summary
line at the end.
"""

from __future__ import annotations

import os
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from features.errors import counted
from features.runtime.interruption import raise_lost_interrupt

VERBOSITY = "SHIPYARD_VERBOSITY"  # quiet | normal | verbose: passes `shipyard run -q` through DVC to the stages
REFRESH = 0.25  # seconds between two updates of the line
BAR = 24  # characters of a bar


def quiet() -> bool:
    """Return whether only errors are to be printed."""
    return os.environ.get(VERBOSITY) == "quiet"


def verbose() -> bool:
    """Return whether a log is to hold every step instead of the summary alone."""
    return os.environ.get(VERBOSITY) == "verbose"


class Progress:
    """A count of finished units out of a total, shown on stderr.

    Use it as a context manager: it restores the terminal when an error or Ctrl-C ends the block.
    """

    def __init__(self, label: str, total: int, *, unit: str = "image", done: int = 0) -> None:
        """Start at `done` units of `total`, which an earlier run finished; the rate does not count them.

        Args:
            label: what is at work.
            total: its number of units.
            unit: what is counted, in the singular.
            done: units that an earlier run finished.
        """
        self.label, self.total, self.unit = label, total, unit
        self.units = counted(total, unit)  # `1,000 images`
        self.done = self._done_before = done
        self._console = Console(stderr=True, quiet=quiet(), highlight=False, soft_wrap=True)

        columns = "{task.description}", BarColumn(), "{task.fields[state]}", TimeRemainingColumn(compact=True), "left"
        self._bar = Bar(
            *(TextColumn(c, markup=False) if isinstance(c, str) else c for c in columns),
            console=self._console,
            auto_refresh=False,  # a thread of its own must not run while the decoding processes are started
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(label, total=total, completed=done, state="")
        self._start = self._last_update = time.monotonic()

    def __enter__(self) -> Progress:
        if self.done:
            self._console.print(f"{self.label}: {self.done:,} of {self.units} kept from an earlier run")
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._bar.stop()
        if kind is None:
            self._console.print(self._summary())

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more units; the line changes at most four times a second."""
        raise_lost_interrupt()
        self.done += count
        now = time.monotonic()

        if verbose() and note:
            self._console.print(f"{self.label}: {self.done:,}/{self.units}, {note}")
        if now - self._last_update > REFRESH or self.done == self.total:
            self._last_update = now
            state = f"{self.done:,}/{self.units}, {self.rate:.1f}/s{', ' if note else ''}{note}"
            self._bar.update(self._task, completed=self.done, state=state, refresh=True)

    @property
    def rate(self) -> float:
        """Units a second since the start."""
        return (self.done - self._done_before) / max(time.monotonic() - self._start, 1e-9)

    def _summary(self) -> str:
        new = self.done - self._done_before
        took = f"{new:,} in {clock(time.monotonic() - self._start)}, {self.rate:.1f} {self.unit}s/s"
        return f"{self.label}: {self.units}, {took if new else 'nothing to do (all cached)'}"


def line_of(number: int, total: int, name: str, *, drawn: bool) -> str:
    """Return the line for the start of one of several jobs: which it is, and how many are left after it.

    Args:
        number: Place of the job, from 1 on.
        total: Number of jobs.
        name: What runs now.
        drawn: Draw the share that is done as a bar, for a person at a terminal.
    """
    if not drawn:
        return f"[{number}/{total}] {name}"
    full = BAR * (number - 1) // total
    return f"{'━' * full}{'╌' * (BAR - full)} {number}/{total} {name} ({total - number} left)"


def clock(seconds: float) -> str:
    """Return seconds as 0:07, 12:30 or 1:02:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
