"""Parse untrusted HDF5 and MATLAB files in a subprocess, because their C parsers can crash or hang.

libhdf5 and SciPy's MATLAB reader check little: some bytes make the one loop forever and crash the other. The subprocess
has a limit of processor time. It returns its arrays as `.npy` files, which can hold only numbers and texts.
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

SECONDS = 60  # of processor time for any file; a large one gets more
BYTES_PER_SECOND = 10_000_000  # size of a file that earns it one more second
ROOT = Path(__file__).resolve().parents[2]
NAMES, ERROR = "names.json", "error.txt"  # files through which the subprocess answers
TIMEOUT = signal.SIGXCPU.name

Arrays = Mapping[str, NDArray[Any]]
Read = Callable[[Path, Collection[str]], Arrays]


def read_in_sandbox(read: Read, path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of `read(path, names)`, called in a subprocess.

    Args:
        read: A function at the top of a module, which the subprocess imports.
        path: The file to parse.
        names: The arrays to read, passed on to `read`.

    Raises:
        InputError: `read` raised one, exceeded the time limit, or crashed.
    """
    seconds = SECONDS + (path.stat().st_size // BYTES_PER_SECOND if path.is_file() else 0)

    with TemporaryDirectory(prefix="shipyard-") as temporary:
        folder = Path(temporary)
        status = _exit_status([str(seconds), temporary, read.__module__, read.__name__, str(path), *names])

        if status == 1 and (folder / ERROR).is_file():
            raise InputError((folder / ERROR).read_text(encoding="utf-8"))
        if status:
            cause = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            limit = f", after {seconds} s" if cause == TIMEOUT else ""
            raise InputError(
                f"{path} cannot be read: the parser crashed ({cause}{limit}): the file is corrupt or malicious; "
                "get a new copy"
            )

        array_names = json.loads((folder / NAMES).read_text(encoding="utf-8"))
        return {name: np.load(folder / f"{i}.npy", allow_pickle=False) for i, name in enumerate(array_names)}


def _exit_status(arguments: list[str]) -> int:
    """Run this module as a program and return its exit status, negative after a signal."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", read_in_sandbox.__module__, *arguments]
    env = {**os.environ, "PYTHONPATH": path}
    quiet = subprocess.DEVNULL
    return subprocess.run(command, env=env, stdout=quiet, stderr=quiet, check=False).returncode  # noqa: S603 (our own)


def main() -> int:
    """Run the function that `read_in_sandbox` named on the command line, and write its arrays or its error."""
    seconds, out, module, function, path, *names = sys.argv[1:]
    folder = Path(out)

    # The soft limit sends SIGXCPU, which ends the process; the hard limit a second later sends SIGKILL.
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 1))
    try:
        arrays: Arrays = getattr(importlib.import_module(module), function)(Path(path), names)
    except InputError as error:
        (folder / ERROR).write_text(str(error), encoding="utf-8", errors="replace")
        return 1

    # Files are numbered, because the name of an array comes from the untrusted file and may hold a path.
    for number, values in enumerate(arrays.values()):
        np.save(folder / f"{number}.npy", values, allow_pickle=False)
    (folder / NAMES).write_text(json.dumps([*arrays]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
