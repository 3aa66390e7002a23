"""What a stage takes to start: CPU seconds of importing its module, and open_clip if it needs that, beyond torch.

`python -m benchmarks start_up`
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys

from benchmarks.measure import ROOT, Row

OPEN_CLIP = "from features.lean_import import import_open_clip; import_open_clip()"  # which an encoder needs
STAGES = {
    **dict.fromkeys(("index", "assemble", "train_generator", "synthesize", "finetune", "evaluate", "report"), ""),
    **dict.fromkeys(("extract", "text_tower"), OPEN_CLIP),
}
MOST = 3.0  # seconds


def rows(*, small: bool) -> list[Row]:
    """The slowest stage against the most that it may take."""
    began = {stage: f"import torch, stages.{stage}; {rest}" for stage, rest in STAGES.items()}
    slowest = max(began.values(), key=_cpu_seconds)
    torch, stage = (
        statistics.median(_cpu_seconds(code) for _ in range(5 if small else 9)) for code in ("import torch", slowest)
    )
    beyond = max(stage - torch, 1e-3)
    return [Row.of("start of the slowest stage, beyond importing torch", beyond, MOST, unit="CPU s", at_least=1)]


def _cpu_seconds(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", code]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})  # noqa: S603
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
