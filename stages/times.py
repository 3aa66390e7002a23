"""How long a stage took: a line in a log, and a row of a file that belongs to this machine.

No output may hold a time, or the same input would not give the same bytes; `shipyard report` shows the file.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path

from features.runtime.progress import clock, quiet
from pipeline.artifacts import paths


def timed(main: Callable[..., None]) -> Callable[..., None]:
    """`main`, which when it is done says how long it took; what fails or is interrupted says nothing."""

    @wraps(main)
    def run(**options: object) -> None:
        began = time.monotonic()
        main(**options)
        seconds = time.monotonic() - began
        stage = Path(sys.argv[0]).stem
        if not quiet():
            cell = " ".join(str(value) for value in options.values() if value is not None)
            print(f"{stage} {cell}".strip() + f": done in {clock(seconds)}", file=sys.stderr)
        note(f"python -m stages.{' '.join([stage, *sys.argv[1:]])}", seconds)

    return run


def note(command: str, seconds: float) -> None:
    """Add a row: the command as dvc.yaml has it, and wall-clock seconds. One write, so that two stages may do it."""
    paths.TIMES.parent.mkdir(parents=True, exist_ok=True)
    with paths.TIMES.open("a", encoding="utf-8") as file:
        file.write(f"{command},{seconds:.1f}\n")
