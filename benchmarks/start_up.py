"""Start of a stage: CPU seconds to import its module, and open_clip if it needs that, beyond importing torch.

`python -m benchmarks start_up`
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from benchmarks.measure import Row
from benchmarks.memory import ROOT
from features.runtime.cores import cores

OPEN_CLIP = "from features.runtime.lazy_open_clip import import_open_clip; import_open_clip()"
STAGES = {
    **dict.fromkeys(("index", "build_task", "train_generator", "synthesize", "fit", "evaluate", "report"), ""),
    **dict.fromkeys(("extract", "text_tower"), OPEN_CLIP),
}
MAX_SECONDS = 3.0


def rows(*, small: bool) -> list[Row]:
    """Return the row of the slowest stage against its limit."""
    programs = [f"import stages.{stage}; {rest}" for stage, rest in STAGES.items()]
    with ThreadPoolExecutor(cores()) as pool:  # all at once to find the slowest, which is then timed by itself
        _, slowest = max(zip(pool.map(_cpu_seconds, programs), programs, strict=True))
    beyond = statistics.median(_cpu_seconds(slowest) for _ in range(5 if small else 9))
    return [Row.of("start of the slowest stage, beyond importing torch", beyond, MAX_SECONDS, unit="CPU s", at_least=1)]


def _cpu_seconds(code: str) -> float:
    """Return the CPU seconds of `code` in a new process that has imported torch."""
    timed = f"import time, torch; start = time.process_time(); {code}\nprint(time.process_time() - start)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", timed]
    process = subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE)  # noqa: S603
    return float(process.stdout)
