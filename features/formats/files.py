"""Atomic writes: files and folders appear under their name only when they are complete."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from features.errors import InputError

MARK = ".shipyard"  # in every folder that `atomic_folder` made; only a folder that has it is ever replaced
MARK_TEXT = "Shipyard made this folder and replaces it as a whole. Keep nothing of your own here.\n"


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` to write a file to; rename it to `path` on success.

    A kill, an error or a full disk leaves `path` as it was. An existing file is replaced; a folder never is.

    Raises:
        InputError: `path` is a folder, the disk is full, or the parent folder cannot be written.
    """
    part = _part(path)
    with _discarded_on_error(path, part):
        _refuse_to_replace(path, path.is_dir(), "it is a folder, and a file goes there")
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(part)
        yield part
        part.replace(path)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary sibling of `path`, a folder; rename it to `path` on success.

    The finished folder holds the file `MARK`. An existing folder is replaced only if it holds that file, so a folder
    that somebody else made is never lost.

    Raises:
        InputError: something else is at `path`, the disk is full, or the parent folder cannot be written.
    """
    part, old = _part(path), path.with_name(f".{path.name}.shipyard-old")
    with _discarded_on_error(path, part):
        foreign = path.exists() and not (path / MARK).is_file()
        _refuse_to_replace(path, foreign, f"Shipyard did not make it (it holds no file {MARK})")
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(part)
        part.mkdir()
        yield part
        (part / MARK).write_text(MARK_TEXT, encoding="utf-8")
        # A folder cannot be replaced in one step. The old one goes aside first, so that a kill here loses neither.
        remove(old)
        if path.exists():
            path.replace(old)
        part.replace(path)
    remove(old)


def _part(path: Path) -> Path:
    """Return where a file or folder lies while it is written; the suffix says whose it is."""
    return path.with_name(f".{path.name}.shipyard-part")


def _refuse_to_replace(path: Path, refused: bool, reason: str) -> None:
    if refused:
        raise InputError(f"cannot write {path}: {reason}. Nothing was changed; move it away, or choose another path.")


@contextmanager
def _discarded_on_error(path: Path, part: Path) -> Iterator[None]:
    """Remove the unfinished `part` when an error ends the block; turn an OSError into an InputError."""
    try:
        yield
    except OSError as error:
        _discard(part)
        raise InputError(
            f"cannot write {path}: {error.strerror or error}. What was there before is untouched."
        ) from error
    except BaseException:
        _discard(part)
        raise


def _discard(part: Path) -> None:
    """Remove an unfinished file or folder if the disk allows it; the error that stopped the write matters more."""
    with suppress(OSError):
        remove(part)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder that this project made, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: object) -> str:
    """JSON whose bytes depend on the value alone: sorted keys, two spaces, no NaN, one newline at the end."""
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: object) -> None:
    """Write canonical JSON, whole or not at all."""
    with atomic_file(path) as part:
        part.write_text(canonical_json(value), encoding="utf-8")
