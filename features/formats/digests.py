"""Compute the sha256 of many files, and reuse it while a file's size and modification time stay the same."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from features.errors import InputError
from features.formats.seal import read_sealed_json, write_sealed_json

THREADS = 4  # hashing releases Python's lock, and opening small files waits for the disk
CHUNK = 256  # files per task: with one file per task, bookkeeping would take most of the time and memory
OUTSIDE = "a symbolic link to a file outside the data set's folder; replace it by the file itself"


@dataclass(frozen=True, slots=True)
class Digest:
    """A file's size in bytes, its modification time in ns, and the sha256 of its bytes in hex."""

    size: int
    mtime_ns: int
    sha256: str


def digests(folder: Path, paths: Sequence[str], cache: Path, *, links: bool = False) -> list[Digest | str]:
    """Hash N files.

    Args:
        folder: The folder that `paths` are relative to.
        paths: N POSIX paths.
        cache: A JSON file that keeps the digests for the next call. If it is missing, corrupt or belongs to another
            folder, the files are hashed again; the result is the same.
        links: Whether files may be links to files outside the folder, as in a user's own collection.

    Returns:
        For each path a `Digest`, or the reason as a text if the file cannot be read.
    """
    cached = load_cache(cache, folder)
    root = folder.resolve()

    def digest(path: str) -> Digest | str:
        try:
            file = folder / path
            status = file.stat()
            if not stat.S_ISREG(status.st_mode):
                return "not a regular file"  # reading a pipe or a device might never end
            # A folder may be a link, as in CoOp's instructions for ImageNet. A file may not link to one outside.
            if not links and file.is_symlink() and not (target := file.resolve()).is_relative_to(root):
                return f"{OUTSIDE} ({target})"
            return _digest(file, status, cached.get(path))
        except OSError as error:
            return error.strerror or str(error)

    with ThreadPoolExecutor(THREADS) as pool:
        results = list(chain.from_iterable(pool.map(_map_over(digest), _chunks(paths))))

    current = {path: result for path, result in zip(paths, results, strict=True) if isinstance(result, Digest)}
    if current != cached:
        _save_cache(cache, folder, current)
    return results


def _digest(file: Path, status: os.stat_result, cached: Digest | None) -> Digest:
    if cached and (cached.size, cached.mtime_ns) == (status.st_size, status.st_mtime_ns):
        return cached
    with file.open("rb") as opened:
        return Digest(status.st_size, status.st_mtime_ns, hashlib.file_digest(opened, "sha256").hexdigest())


def _map_over(function: Callable[[str], Digest | str]) -> Callable[[Sequence[str]], list[Digest | str]]:
    return lambda paths: [function(path) for path in paths]


def _chunks(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    return (paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK))


def load_cache(cache: Path, folder: Path) -> dict[str, Digest]:
    """Return the cached digests of `folder`; {} if the cache is missing, corrupt or belongs to another folder."""
    try:
        content = read_sealed_json(cache, "")
        if content["folder"] != str(folder.resolve()):
            return {}
        return {
            str(path): Digest(int(size), int(time), str(sha)) for path, (size, time, sha) in content["files"].items()
        }
    except (InputError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _save_cache(cache: Path, folder: Path, current: dict[str, Digest]) -> None:
    files = {path: (digest.size, digest.mtime_ns, digest.sha256) for path, digest in current.items()}
    write_sealed_json(cache, {"folder": str(folder.resolve()), "files": files})
