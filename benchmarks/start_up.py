"""What a stage takes to start, beyond importing torch: CPU seconds of importing its module.

`python -m benchmarks start_up`
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys

from benchmarks.measure import ROOT, Row

STAGES = ("index", "extract", "assemble", "train_generator", "synthesize", "finetune", "evaluate", "report")
MOST = 3.0  # seconds


def rows(*, small: bool) -> list[Row]:
    """The slowest stage against the most that it may take."""
    slowest = max(STAGES, key=lambda stage: _cpu_seconds("torch", f"stages.{stage}"))
    torch, stage = (
        statistics.median(_cpu_seconds(*modules) for _ in range(5 if small else 9))
        for modules in (("torch",), ("torch", f"stages.{slowest}"))
    )
    beyond = max(stage - torch, 1e-3)
    return [Row.of(f"importing the slowest stage, {slowest}, beyond torch", beyond, MOST, unit="CPU s", at_least=1)]


def _cpu_seconds(*modules: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", f"import {', '.join(modules)}"]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})  # noqa: S603
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
