"""An interrupt leaves no traceback, also when it comes while Python ends."""

from __future__ import annotations

import subprocess
import sys

import pytest
from project_root import ROOT

CODE = """
from features.runtime.interruption import exit_cleanly_on_interrupt

exit_cleanly_on_interrupt("hint")

class Last:
    def __del__(self):
        raise {error}

last = Last()
"""


@pytest.mark.parametrize(("error", "shown"), [("KeyboardInterrupt", False), ("ValueError", True)])
def test_an_interrupt_while_python_ends_prints_nothing(error: str, shown: bool) -> None:
    command = [sys.executable, "-c", CODE.format(error=error)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ("Traceback" in ended.stderr) == shown
