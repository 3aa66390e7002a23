"""Report how long a stage took: a line in the log, and a row in a file of this machine.

No output may contain a time, or the same input would not give the same bytes. `shipyard report` shows the file.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path

from features.runtime.progress import clock, quiet
from pipeline.artifacts import paths
from pipeline.executor.stage_inputs import watch_inputs


def timed(main: Callable[..., None]) -> Callable[..., None]:
    """Return `main` with a report of its time at the end; a stage that fails or is interrupted reports none."""

    @wraps(main)
    def run(**options: object) -> None:
        stage = Path(sys.argv[0]).stem
        watch_inputs(stage, options)
        start = time.monotonic()
        main(**options)
        seconds = time.monotonic() - start

        if not quiet():
            cell = " ".join(str(value) for value in options.values() if value is not None)
            print(f"{stage} {cell}".strip() + f": done in {clock(seconds)}", file=sys.stderr)
        record_time(f"python -m stages.{' '.join([stage, *sys.argv[1:]])}", seconds)

    return run


def record_time(command: str, seconds: float) -> None:
    """Append a row to `artifacts/.times.csv`: the command as in dvc.yaml, and wall-clock seconds.

    The stage's outputs are complete by now, so a file that cannot be written is only a note on stderr.
    """
    try:
        paths.TIMES.parent.mkdir(parents=True, exist_ok=True)
        with paths.TIMES.open("a", encoding="utf-8") as file:
            # One write, so that the rows of two stages at the same time do not mix.
            file.write(f"{command},{seconds:.1f}\n")
    except OSError as error:
        print(
            f"note: the time of this stage was not recorded: cannot write {paths.TIMES}: {error.strerror or error}",
            file=sys.stderr,
        )
