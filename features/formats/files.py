"""Whole or not at all: files and folders that appear under their name only when complete."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from features.errors import InputError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` to write to (a file or a folder); rename it into place on success.

    A kill, an error or a full disk leaves `path` as it was; the half-written sibling is removed.

    Raises:
        InputError: the disk is full or the folder cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(part)
        yield part
        if path.is_dir():  # a file is replaced in one step, a folder in two
            remove(path)
        part.replace(path)
    except OSError as error:
        _discard(part)
        raise InputError(
            f"cannot write {path}: {error.strerror or error}. What was there before is untouched."
        ) from error
    except BaseException:
        _discard(part)
        raise


def _discard(part: Path) -> None:
    """Remove what was half-written, if the disk lets us; the error that stopped the writing is the one to tell."""
    with suppress(OSError):
        remove(part)


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
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
    with written_whole(path) as part:
        part.write_text(canonical_json(value), encoding="utf-8")
