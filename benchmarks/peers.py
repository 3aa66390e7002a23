"""The centre crops of 512 photographs: `extract` beside other programs, CPU and wall time and memory.

`python -m benchmarks peers`, after `pip install -e '.[peers]'`. All compute LiteCLIP's image features in float32, with
two processes that decode:

- `extract`;
- a `torch.utils.data.DataLoader` over torchvision's `ImageFolder`;
- the same over a Hugging Face data set of the same files;
- CLIP_benchmark's zero-shot classification of the same files, in float32.

The peers run the model as open_clip builds it, with its own transform, in batches of 32. Each runs in a process of its
own, in turn. CPU time and memory are those of all its processes, and include the imports.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil

from benchmarks.material import photographs
from benchmarks.measure import Row
from benchmarks.memory import ROOT
from benchmarks.peers_once import COUNT, WORKS

REPEATS = 3
SAMPLE = 0.1  # seconds between two looks at the memory


def rows(*, small: bool) -> list[Row]:
    """Return three rows for each peer."""
    measured: dict[str, list[tuple[float, float, float]]] = {name: [] for name in WORKS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "photos" / "all"
        folder.mkdir(parents=True)
        photographs(folder, COUNT)
        for _ in range(1 if small else REPEATS):
            for who, results in measured.items():
                results.append(_cost(who, name))
    ours, *others = ([median(column) for column in zip(*results, strict=True)] for results in measured.values())
    found = []
    for who, theirs in zip([*WORKS][1:], others, strict=True):
        found += [
            Row.of(f"{COUNT} photographs, CPU, against {who}", ours[0], theirs[0], unit="CPU s", at_least=1.5),
            Row.of(f"{COUNT} photographs, wall, against {who}", ours[1], theirs[1], at_least=1.5),
            Row.of(f"{COUNT} photographs, memory, against {who}", ours[2], theirs[2], unit="GB", at_least=1),
        ]
    return found


def _cost(who: str, folder: str) -> tuple[float, float, float]:
    """Return CPU s, s and GB of one peer."""
    before, start, peak = os.times(), time.perf_counter(), 0
    command = [sys.executable, "-m", "benchmarks.peers_once", who, folder]
    with subprocess.Popen(command, cwd=ROOT) as process:  # noqa: S603 (our own module)
        while process.poll() is None:
            peak = max(peak, _memory(process.pid))
            time.sleep(SAMPLE)
    if process.returncode:
        raise SystemExit(f"{who} failed; are the peers installed? pip install -e '.[peers]'")
    after = os.times()
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return cpu, time.perf_counter() - start, peak / 1e9


def _memory(pid: int) -> int:
    """Return the bytes of a process and its children; what they share counts once."""
    total = 0
    try:
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            total += one.memory_full_info().pss
    except psutil.Error:  # it has just ended
        return 0
    return total
