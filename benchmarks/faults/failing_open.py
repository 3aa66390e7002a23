"""Compile `failing_open.c`, and have programs load it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
LIBRARY = "LD_PRELOAD"


def preload(folder: Path) -> None:
    """Compile the library and have every program load it from now on; do nothing without a C compiler."""
    library = folder / "failing_open.so"
    command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    try:
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 (ours)
    except (OSError, subprocess.CalledProcessError):
        return
    os.environ[LIBRARY] = str(library)
