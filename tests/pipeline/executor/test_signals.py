"""Signals that end a run, and those that must not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from pipeline.executor.signals import ended_as_by_ctrl_c


def test_a_hangup_that_is_ignored_as_under_nohup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_as_by_ctrl_c():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


# In a process of its own: every process below the one that gets the signal is interrupted, and pytest has some.
END = """
import signal, sys
from pipeline.executor.signals import ended_as_by_ctrl_c

kind = signal.Signals(int(sys.argv[1]))
signal.signal(kind, signal.SIG_DFL)
before = signal.getsignal(kind)
try:
    with ended_as_by_ctrl_c():
        signal.raise_signal(kind)
except KeyboardInterrupt:
    assert signal.getsignal(kind) == before
    sys.exit(7)
"""


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGHUP])
def test_other_ends_are_those_of_ctrl_c(kind: signal.Signals) -> None:
    assert subprocess.run([sys.executable, "-c", END, str(int(kind))], check=False).returncode == 7
