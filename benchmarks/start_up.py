"""What a stage takes to start: CPU seconds of importing its module, and open_clip if it needs that, beyond torch.

`python -m benchmarks start_up`
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from benchmarks.measure import ROOT, Row
from features.runtime.devices import cores

OPEN_CLIP = "from features.runtime.lazy_open_clip import import_open_clip; import_open_clip()"  # which an encoder needs
STAGES = {
    **dict.fromkeys(("index", "build_task", "train_generator", "synthesize", "fit", "evaluate", "report"), ""),
    **dict.fromkeys(("extract", "text_tower"), OPEN_CLIP),
}
MOST = 3.0  # seconds


def rows(*, small: bool) -> list[Row]:
    """The slowest stage against the most that it may take."""
    began = [f"import stages.{stage}; {rest}" for stage, rest in STAGES.items()]
    with ThreadPoolExecutor(cores()) as pool:  # to find the slowest; that one is then timed by itself
        _, slowest = max(zip(pool.map(_cpu_seconds, began), began, strict=True))
    beyond = statistics.median(_cpu_seconds(slowest) for _ in range(5 if small else 9))
    return [Row.of("start of the slowest stage, beyond importing torch", beyond, MOST, unit="CPU s", at_least=1)]


def _cpu_seconds(code: str) -> float:
    """What `code` takes in a process of its own that has imported torch."""
    timed = f"import time, torch; began = time.process_time(); {code}\nprint(time.process_time() - began)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", timed]
    done = subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE)  # noqa: S603
    return float(done.stdout)
