"""Peak memory of a process; imports nothing heavy, so that it can measure programs that run without torch."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def peak_bytes(module: str, *arguments: str) -> int:
    """Return the peak memory of `python -m module arguments`, which must print `own_peak_bytes()` on its last line."""
    command = [sys.executable, "-m", module, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=environment)  # noqa: S603
    return int(process.stdout.splitlines()[-1])


def own_peak_bytes() -> int:
    """Return the peak memory of this process.

    Linux's `ru_maxrss` starts at the memory of the parent process, so the peak is read from /proc where there is one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
