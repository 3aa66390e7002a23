"""An interrupt ends the program without a traceback, wherever it comes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from project_root import ROOT

ENDING = """
from features.runtime.interruption import exit_cleanly_on_interrupt

exit_cleanly_on_interrupt("hint")

class Last:
    def __del__(self):
        raise {error}

last = Last()
"""
LOSING = """
import signal
from features.runtime.interruption import exit_cleanly_on_interrupt, raise_lost_interrupt

exit_cleanly_on_interrupt("hint")

class Lost:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

raise_lost_interrupt()
Lost()
print("went on", flush=True)
{next_step}
print("went too far")
"""
STEPS = {
    "a check": "raise_lost_interrupt()",
    "progress": """
from features.runtime.progress import Progress
Progress("label", 2).advance()
""",
    "training": """
import torch
from pipeline.training.data import LabelledFeatures
from pipeline.training.loop import Batches
train = LabelledFeatures(torch.ones(4, 1, 2), torch.zeros(4, dtype=torch.int64))
list(Batches(train, None, 1, 2, 0.0, torch.Generator()))
""",
}


def end_of(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("error", "shown"), [("KeyboardInterrupt", False), ("ValueError", True)])
def test_an_interrupt_while_python_ends_prints_nothing(error: str, shown: bool) -> None:
    ended = end_of(ENDING.format(error=error))
    assert ended.returncode == 0
    assert ("Traceback" in ended.stderr) == shown


@pytest.mark.parametrize("step", STEPS)
def test_an_interrupt_that_a_library_lost_ends_the_program_at_its_next_step(step: str) -> None:
    ended = end_of(LOSING.format(next_step=STEPS[step]))
    assert (ended.returncode, ended.stdout) == (130, "went on\n")
    assert ended.stderr == "interrupted: hint\n"


def test_an_ignored_interrupt_stays_ignored() -> None:
    ended = end_of("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)" + LOSING.format(next_step=""))
    assert (ended.returncode, ended.stdout) == (0, "went on\nwent too far\n")
