"""sha256 of many files, computed once and reused while a file's size and modification time hold."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from features.formats.files import atomic_file

THREADS = 4  # hashing releases the lock, and opening small files waits for the disk
LEADS_OUT = "a link that leads out of the data set's folder; put the file itself there"
CHUNK = 256  # files a task: a task a file would spend its time, and its memory, on bookkeeping


@dataclass(frozen=True, slots=True)
class Digest:
    """A file's size in bytes, its modification time in ns, and the sha256 of its bytes in hex."""

    size: int
    mtime_ns: int
    sha256: str


def digests(folder: Path, paths: Sequence[str], cache: Path) -> list[Digest | str]:
    """A `Digest` for each of N paths relative to `folder`, or, for a file that cannot be read, why.

    Args:
        folder: what `paths` are relative to.
        paths: N POSIX paths.
        cache: where the digests are kept for the next call. Nothing depends on it: one that is missing, corrupt or of
            another folder costs the time to hash again.
    """
    known = _recall(cache, folder)
    root = folder.resolve()

    def digest(path: str) -> Digest | str:
        try:
            file = folder / path
            status = file.stat()
            if not stat.S_ISREG(status.st_mode):
                return "no regular file"  # a pipe or a device would be read without end
            # A folder may be a link, as CoOp's instructions have it for ImageNet; a file may not stand for another.
            if file.is_symlink() and not (real := file.resolve()).is_relative_to(root):
                return f"{LEADS_OUT} ({real})"
            return _digest(file, status, known.get(path))
        except OSError as error:
            return error.strerror or str(error)

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(chain.from_iterable(pool.map(_each(digest), _chunks(paths))))
    fresh = {path: digest for path, digest in zip(paths, found, strict=True) if isinstance(digest, Digest)}
    if fresh != known:
        _remember(cache, folder, fresh)
    return found


def _digest(file: Path, status: os.stat_result, known: Digest | None) -> Digest:
    if known and (known.size, known.mtime_ns) == (status.st_size, status.st_mtime_ns):
        return known
    with file.open("rb") as opened:
        return Digest(status.st_size, status.st_mtime_ns, hashlib.file_digest(opened, "sha256").hexdigest())


def _each(function: Callable[[str], Digest | str]) -> Callable[[Sequence[str]], list[Digest | str]]:
    return lambda paths: [function(path) for path in paths]


def _chunks(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    return (paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK))


def _recall(cache: Path, folder: Path) -> dict[str, Digest]:
    """The digests kept for `folder`; {} for a cache that is missing, corrupt or of another folder."""
    try:
        kept = json.loads(cache.read_text(encoding="utf-8"))
        if kept["folder"] != str(folder.resolve()):
            return {}
        return {str(path): Digest(int(size), int(time), str(sha)) for path, (size, time, sha) in kept["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _remember(cache: Path, folder: Path, found: dict[str, Digest]) -> None:
    files = {path: (digest.size, digest.mtime_ns, digest.sha256) for path, digest in found.items()}
    with atomic_file(cache) as part:
        part.write_text(json.dumps({"folder": str(folder.resolve()), "files": files}), encoding="utf-8")
