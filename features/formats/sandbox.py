"""Files of strangers that are parsed in C, by a process that we can afford to lose.

libhdf5 and SciPy's reader of MATLAB files check little: some bytes keep the one busy without end, and crash the other.
So another process reads the file and hands its arrays over as `.npy` files, which hold numbers and texts alone.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError

SECONDS, BYTES_A_SECOND = 60, 10_000_000  # of the processor: a file, and a large one more
ROOT = Path(__file__).resolve().parents[2]
NAMES, ERROR = "names.json", "error.txt"
LONG = signal.SIGXCPU.name

Arrays = Mapping[str, NDArray[Any]]
Read = Callable[[Path, Collection[str]], Arrays]


def read_in_sandbox(read: Read, path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """What `read(path, names)`, a function of a module, returns in a process of its own.

    Raises:
        InputError: `read` raised one, took too long, or crashed.
    """
    seconds = SECONDS + (path.stat().st_size // BYTES_A_SECOND if path.is_file() else 0)
    with TemporaryDirectory(prefix="shipyard-") as given:
        folder = Path(given)
        status = _status([str(seconds), given, read.__module__, read.__name__, str(path), *names])
        if status == 1 and (folder / ERROR).is_file():
            raise InputError((folder / ERROR).read_text(encoding="utf-8"))
        if status:
            how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            raise InputError(
                f"{path} cannot be read: the process that parsed it ended by {how}{' (too long)' * (how == LONG)}; the "
                "file is damaged, or made for that: get it anew"
            )
        there = json.loads((folder / NAMES).read_text(encoding="utf-8"))
        return {name: np.load(folder / f"{i}.npy", allow_pickle=False) for i, name in enumerate(there)}


def _status(arguments: list[str]) -> int:
    """The exit status of this module as a program, negative after a signal."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", read_in_sandbox.__module__, *arguments]
    env = {**os.environ, "PYTHONPATH": path}
    quiet = subprocess.DEVNULL
    return subprocess.run(command, env=env, stdout=quiet, stderr=quiet, check=False).returncode  # noqa: S603 (our own)


def main() -> int:
    """Read, as `read_in_sandbox` has asked on the command line."""
    seconds, out, module, function, path, *names = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 1))  # then SIGXCPU
    folder = Path(out)
    try:
        arrays: Arrays = getattr(importlib.import_module(module), function)(Path(path), names)
    except InputError as error:
        (folder / ERROR).write_text(str(error), encoding="utf-8", errors="replace")
        return 1
    for number, values in enumerate(arrays.values()):
        np.save(folder / f"{number}.npy", values, allow_pickle=False)
    (folder / NAMES).write_text(json.dumps([*arrays]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
