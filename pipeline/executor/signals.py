"""Let SIGTERM and SIGHUP, which reach one process alone, end a run as Ctrl-C does, which reaches them all."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from features.runtime.interruption import interrupt


@contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """On SIGTERM or SIGHUP, interrupt every process below this one, and then this one.

    A signal that is ignored stays ignored: `nohup` starts a run that the end of the session must not end.
    """
    kinds = [kind for kind in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(kind) != signal.SIG_IGN]
    before = [signal.signal(kind, _interrupt) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.send_signal(signal.SIGINT)
    interrupt(number, frame)
