"""Checks of the paths that a user names for output, made before any work starts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from features.errors import InputError, raise_all, shown
from features.splits.listed import EXTENSIONS
from pipeline.artifacts.paths import ROOT

# Images of every kind that people keep, also those that the pipeline does not read.
IMAGE_SUFFIXES = EXTENSIONS | {".avif", ".dng", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".raw", ".svg"}
STDOUT = Path("-")


def check_outputs(
    outputs: Mapping[str, Path | None],
    *,
    inputs: Iterable[str | Path] = (),
    data: Iterable[Path] = (),
    overwrite: bool = False,
) -> None:
    """Refuse output paths where a write could destroy something that this command did not make.

    Args:
        outputs: option -> the file to write; None and `-` (standard output) are passed over.
        inputs: files and folders that the command reads.
        data: folders of data sets.
        overwrite: allow an existing file to be replaced.

    Raises:
        InputError: lists every path that cannot be used, with its option and the reason.
    """
    files = {option: path for option, path in outputs.items() if path is not None and path != STDOUT}
    read = [Path(path) for path in inputs] if files else []
    folders = [*data, ROOT] if files else []
    problems = [
        f"{option} {shown(str(path))}: {reason}"
        for option, path in files.items()
        for reason in _reasons(path, read, folders, overwrite)
    ]
    raise_all([*problems, *_named_twice(files)], "the output cannot be written; nothing was done")


def _reasons(path: Path, inputs: list[Path], folders: list[Path], overwrite: bool) -> Iterator[str]:
    """Yield the first reason why a path cannot be written, if there is one."""
    if path.is_dir():
        yield "is a folder; name a file"
    elif (same := _same_file(path, inputs)) is not None:
        yield f"is the input {shown(str(same))}; name another file"
    elif path.suffix.lower() in IMAGE_SUFFIXES:
        yield f"has the suffix of an image, {path.suffix}; name a file with another suffix"
    elif (folder := _containing(path, [*folders, *(one for one in inputs if one.is_dir())])) is not None:
        yield f"lies in {shown(str(folder))}, whose files are inputs or results; name a file elsewhere"
    elif not path.parent.is_dir():
        yield f"there is no folder {shown(str(path.parent))}; create it first"
    elif not os.access(path.parent, os.W_OK):
        yield f"the folder {shown(str(path.parent))} is not writable"
    elif path.exists() and not path.is_file():
        yield "is not a regular file; name a file, or - for standard output"
    elif path.exists() and not overwrite:
        yield "exists; remove it, name another file, or add --overwrite"


def _named_twice(files: Mapping[str, Path]) -> Iterator[str]:
    """Yield a line for each pair of options that name the same file."""
    first: dict[Path, str] = {}
    for option, path in files.items():
        other = first.setdefault(path.resolve(), option)
        if other != option:
            yield f"{option} and {other} both name {shown(str(path))}; name two files"


def _same_file(path: Path, inputs: list[Path]) -> Path | None:
    """Return the input that is the same file as `path`, by whatever name."""
    if not path.exists():
        return next((one for one in inputs if one == path), None)
    for one in inputs:
        with suppress(OSError):
            if one.samefile(path):
                return one
    return None


def _containing(path: Path, folders: list[Path]) -> Path | None:
    """Return the folder that `path` lies in, links resolved."""
    place = path.parent.resolve()
    return next((folder for folder in folders if place.is_relative_to(folder.resolve())), None)


def check_new_file(option: str, path: Path, *, inputs: Iterable[Path] = (), data: Iterable[Path] = ()) -> None:
    """Refuse an output path as `check_outputs` does, for a command that never replaces a file.

    Raises:
        InputError: the path cannot be used.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{option} {shown(str(path))}: exists; remove it, or name another file")
    check_outputs({option: path}, inputs=inputs, data=data)
