"""Atomic writes: files and folders appear under their name only when they are complete."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import google_crc32c

from features.errors import InputError

MARK = ".shipyard"  # a file in every folder of `atomic_folder`; no folder without it is ever replaced
PART_SUFFIX = ".shipyard-part"  # of a file or folder that is being written
MARK_TEXT = "Shipyard made this folder and replaces it as a whole. Keep nothing of your own here.\n"
LISTED = (".csv", ".html", ".md")  # formats with no place for a digest of their own


_checks: list[Callable[[], None]] = []


def before_replacing(check: Callable[[], None]) -> None:
    """From now on, call `check` before any file or folder gets its name; an error of it leaves the old one in place."""
    _checks.append(check)


def _check_all() -> None:
    for check in _checks:
        check()


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` to write a file to; rename it to `path` on success.

    A kill, an error or a full disk leaves `path` as it was. An existing file is replaced; a folder never is.

    Raises:
        InputError: `path` is a folder, the disk is full, or the parent folder is not writable.
    """
    part = part_path(path)
    with _discarded_on_error(path, part):
        _check_replaceable(path, path.is_dir(), "it is a folder, not a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(part)
        yield part
        _check_all()
        part.replace(path)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary sibling of `path`, a folder; rename it to `path` on success.

    The finished folder has the file `MARK`, which also lists the digests of its text files. An existing folder is
    replaced only if it has that file, so a folder of the user is never lost.

    Raises:
        InputError: `path` exists and is not ours, the disk is full, or the parent folder is not writable.
    """
    part = part_path(path)
    old = path.with_name(f".{path.name}.shipyard-old")
    with _discarded_on_error(path, part):
        foreign = path.exists() and not (path / MARK).is_file()
        _check_replaceable(path, foreign, f"Shipyard did not create it (it has no file {MARK})")
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(part)
        part.mkdir()
        yield part
        _check_all()

        write_mark(part)

        # A folder cannot be replaced in one step. The old one is renamed first, so that a kill here loses neither.
        remove(old)
        if path.exists():
            path.replace(old)
        part.replace(path)
    remove(old)


def write_mark(folder: Path) -> None:
    """Write the file that shows that a folder is this project's, with the digests of the folder's text files."""
    texts = sorted(file for file in folder.rglob("*") if file.suffix in LISTED)
    digests = [f"{crc32c(file)}  {file.relative_to(folder).as_posix()}\n" for file in texts]
    (folder / MARK).write_text("".join([MARK_TEXT, *digests]), encoding="utf-8")


def part_path(path: Path) -> Path:
    """Return the path of a file or folder while it is being written; the suffix shows which program left it."""
    return path.with_name(f".{path.name}{PART_SUFFIX}")


def _check_replaceable(path: Path, foreign: bool, reason: str) -> None:
    if foreign:
        raise InputError(f"cannot write {path}: {reason}. Nothing was changed. Move it, or choose another path.")


@contextmanager
def _discarded_on_error(path: Path, part: Path) -> Iterator[None]:
    """Remove the unfinished `part` when an error ends the block; turn an OSError into an InputError."""
    try:
        yield
    except OSError as error:
        _discard(part)
        # What failed may be a file that was read to write this one.
        name = error.filename
        about = f"{name}: " if isinstance(name, str) and not Path(name).is_relative_to(part) else ""
        raise InputError(
            f"cannot write {path}: {about}{error.strerror or error}. The previous content is unchanged."
        ) from error
    except BaseException:
        _discard(part)
        raise


def _discard(part: Path) -> None:
    """Remove an unfinished file or folder if possible."""
    with suppress(OSError):  # the error that stopped the write matters more
        remove(part)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder of this project, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def crc32c(path: Path) -> str:
    """Return the crc32c of a file's bytes in hex."""
    return f"{google_crc32c.value(path.read_bytes()):08x}"


def canonical_json(value: object) -> str:
    """Return JSON whose bytes depend only on the value: sorted keys, two spaces, no NaN, one newline at the end."""
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: object) -> None:
    """Write canonical JSON, completely or not at all."""
    with atomic_file(path) as part:
        part.write_text(canonical_json(value), encoding="utf-8")
