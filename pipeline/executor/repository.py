"""One run at a time in a repository, and repair of what a killed run leaves in DVC's own files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from features.errors import InputError
from features.formats.files import atomic_file, write_json
from pipeline.config.params import CONFLICT_MARKERS

LOCK = Path("dvc.lock")
TEMPORARY = Path(".dvc/tmp")
LAST_GOOD = TEMPORARY / "dvc.lock.last_good"  # a copy of dvc.lock when it was last seen whole
PARSED = TEMPORARY / "dvc.lock.json"  # what the YAML parser read in that copy, which takes it a second for 300 cells
RUN_LOCK = TEMPORARY / "shipyard.lock"
RUN_OWNER = TEMPORARY / "shipyard.json"  # which process holds RUN_LOCK, for the message of the next one
STAGE_KEYS = {"cmd", "deps", "params", "outs"}
FILE_KEYS = {"path", "hash", "md5", "size", "nfiles", "isexec", "etag", "checksum", "version_id", "cloud", "files"}
CELLS = "pipeline.executor.cells"  # the program of a run, which holds DVC's locks
PATH_LOCKS = TEMPORARY / "rwlock"  # DVC's: which process reads or writes which path
SECONDS = 0.5  # between two looks at it
READS = 3  # before it counts as broken


@contextmanager
def exclusive_run(command: str) -> Iterator[None]:
    """Hold the repository's run lock, so that no other `shipyard run` changes params.yaml or runs stages meanwhile.

    The operating system releases the lock when the process ends, however it ends.

    Raises:
        InputError: another run holds it, or `dvc.lock` holds conflict markers or is broken beyond repair.
    """
    from filelock import FileLock, Timeout

    if not TEMPORARY.parent.is_dir():
        yield  # no DVC repository; DVC reports that
        return

    TEMPORARY.mkdir(exist_ok=True)
    lock = FileLock(RUN_LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"another run is at work in this repository ({_owner()}). Nothing was changed; wait until it ends, or stop "
            "it first."
        ) from None

    try:
        with suppress(InputError, OSError):  # only a message needs it
            write_json(RUN_OWNER, {"command": command, "host": socket.gethostname(), "pid": os.getpid()})
        check_lock_file()
        wait_for_dvc()
        yield
        with suppress(InputError):
            _keep_copies(*_read())
    finally:
        lock.release()


def run_at_work() -> str | None:
    """Return which run holds the repository's lock, for messages; None if none does."""
    from filelock import FileLock, Timeout

    if not RUN_LOCK.is_file():
        return None
    try:
        with FileLock(RUN_LOCK, timeout=0):
            return None
    except Timeout:
        return _owner()


def _owner() -> str:
    try:
        owner = json.loads(RUN_OWNER.read_text(encoding="utf-8"))
        return f"`{owner['command']}`, process {owner['pid']} on {owner['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return f"it holds {RUN_LOCK}"


def check_lock_file() -> None:
    """Restore `dvc.lock` from its last good copy if a kill or a full disk left it empty or cut.

    Raises:
        InputError: it holds conflict markers of a merge, or it is broken and there is no copy.
    """
    try:
        _keep_copies(*_read())
        return
    except InputError as error:
        if "conflict markers" in str(error) or not LAST_GOOD.is_file():
            raise

    with atomic_file(LOCK) as part:
        shutil.copyfile(LAST_GOOD, part)
    print(f"note: {LOCK} was broken by a run that was killed; its last good copy is restored", file=sys.stderr)


def lock_file_problem() -> str | None:
    """Return what is wrong with `dvc.lock` and what to do; None if it is whole or does not exist."""
    try:
        read_lock_file()
    except InputError as error:
        return str(error)
    return None


def read_lock_file() -> dict[str, Any]:
    """Return the content of `dvc.lock`; one without stages if it does not exist.

    Raises:
        InputError: it cannot be read, has conflict markers, or is not a lock file of DVC.
    """
    return _read()[1]


def _read() -> tuple[bytes, dict[str, Any]]:
    """Return the bytes of `dvc.lock`, none if it does not exist, and its content."""
    if not LOCK.exists():
        return b"", {"stages": {}}
    try:
        data = LOCK.read_bytes()
    except OSError as error:
        raise InputError(
            f"{LOCK} cannot be read: {error.strerror or error}. Restore it with `git checkout dvc.lock`"
        ) from error
    return data, kept_values(data) or _parse(data)


def _parse(data: bytes) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    text = data.decode("utf-8", errors="replace")
    if any(line.startswith(CONFLICT_MARKERS) for line in text.splitlines()):
        raise InputError(
            f"{LOCK} has conflict markers of a merge. `shipyard merge-lock` unites both sides (docs/merge.md). Or take "
            "one side, `git checkout --ours dvc.lock` or `--theirs`: what the other side ran comes from DVC's run "
            "cache, or is run again"
        )
    try:
        values = YAML(typ="safe").load(text)
    except (YAMLError, ValueError, RecursionError):
        values = None
    if not _is_lock(values):
        raise InputError(
            f"{LOCK} is not a lock file of DVC. Restore it with `git checkout dvc.lock`, or remove it, and run again"
        )
    return dict(values)


def _is_lock(values: object) -> bool:
    """Whether DVC's schema allows the content of a lock file."""
    if not isinstance(values, dict) or values.get("schema") != "2.0":
        return False
    stages = values.get("stages")
    return isinstance(stages, dict) and all(map(_is_stage, stages.values()))


def _is_stage(entry: object) -> bool:
    if not isinstance(entry, dict) or not set(entry) <= STAGE_KEYS or not isinstance(entry.get("cmd"), str | list):
        return False
    params = entry.get("params", {})
    lists = [entry.get(kind, []) for kind in ("deps", "outs")]
    if not isinstance(params, dict) or not all(isinstance(values, dict) for values in params.values()):
        return False
    return all(isinstance(files, list) and all(map(_is_file, files)) for files in lists)


def _is_file(entry: object) -> bool:
    if not isinstance(entry, dict) or not set(entry) <= FILE_KEYS:
        return False
    return isinstance(entry.get("path"), str) and isinstance(entry.get("md5", ""), str)


def kept_values(data: bytes) -> dict[str, Any] | None:
    """Return the content of a `dvc.lock` with these bytes if a run has kept it, else None."""
    try:
        kept: dict[str, Any] = json.loads(PARSED.read_text(encoding="utf-8"))
        return dict(kept["values"]) if kept["md5"] == _md5(data) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep_copies(data: bytes, values: dict[str, Any]) -> None:
    """Keep a `dvc.lock` that is whole: as it is, to restore a broken one, and its values, to read it fast.

    No result needs these copies, so one that cannot be written stops nothing.
    """
    if not data or (kept_values(data) is not None and LAST_GOOD.is_file()):
        return
    with suppress(InputError, OSError):
        with atomic_file(LAST_GOOD) as part:
            part.write_bytes(data)
        parsed = {"md5": _md5(data), "values": values}
        if json.loads(text := json.dumps(parsed, default=str)) == parsed:  # JSON has no dates and no numbers as keys
            with atomic_file(PARSED) as part:
                part.write_text(text, encoding="utf-8")


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def wait_for_dvc() -> None:
    """Wait while a DVC command or the rest of a killed run works in this repository, and remove stale locks.

    DVC keeps process ids in a file. After a reboot or in a new container, another program may have such an id. A kill
    or a full disk may leave the file empty. DVC then ends with "busy" or "corrupted". The caller holds the run lock.
    """
    try:
        if at_work := dvc_at_work():
            print(f"waiting for {at_work}, at work in this repository; Ctrl-C ends the wait", file=sys.stderr)
        while dvc_at_work():
            time.sleep(SECONDS)
        if any(_path_locks()):
            write_json(PATH_LOCKS, {"read": {}, "write": {}})
            print(f"note: locks of runs that have ended are removed from {PATH_LOCKS}", file=sys.stderr)
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        PATH_LOCKS.unlink(missing_ok=True)
        print(f"note: {PATH_LOCKS} was unreadable, as a kill or a full disk leaves it, and is removed", file=sys.stderr)


def dvc_at_work() -> str:
    """Return which processes of this repository hold locks on paths, for messages; empty if none does."""
    live = {f"`{info['cmd']}` (process {info['pid']})" for info in _path_locks() if _at_work(info)}
    return ", ".join(sorted(live))


def _path_locks() -> list[dict[str, Any]]:
    """Return the holders of DVC's locks on paths."""
    if not PATH_LOCKS.exists():
        return []
    locks = _read_path_locks()
    readers, writers = dict(locks.get("read", {})), dict(locks.get("write", {}))
    return [*writers.values(), *(info for infos in readers.values() for info in infos)]


def _read_path_locks() -> dict[str, Any]:
    """Return the content of DVC's file of locks. A DVC that is writing it leaves it empty or cut for a moment."""
    for _ in range(READS - 1):
        with suppress(ValueError):
            return _json(PATH_LOCKS)
        time.sleep(SECONDS)
    return _json(PATH_LOCKS)


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_bytes())
    return content


def _at_work(info: dict[str, Any]) -> bool:
    """Whether the process of a lock is alive and is a DVC of this repository."""
    import psutil

    try:
        process = psutil.Process(int(info["pid"]))
        is_dvc = any("dvc" in Path(word).name or word == CELLS for word in process.cmdline()[:4])
        return is_dvc and Path(process.cwd()).is_relative_to(Path.cwd())
    except (psutil.Error, KeyError, ValueError, OverflowError):
        return False
