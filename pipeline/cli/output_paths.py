"""Checks of output paths given by the user, before any work starts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from features.errors import InputError, raise_all, shown
from features.splits.image_files import IMAGE_SUFFIXES, RAW_SUFFIXES
from pipeline.artifacts.paths import ROOT

# All common image formats, including those that the pipeline cannot read.
PICTURE_SUFFIXES = IMAGE_SUFFIXES | RAW_SUFFIXES | {".svg"}
STDOUT = Path("-")


def check_outputs(
    outputs: Mapping[str, Path | None],
    *,
    inputs: Iterable[str | Path] = (),
    data: Iterable[Path] = (),
    overwrite: bool = False,
) -> None:
    """Check that writing to the output paths destroys nothing that this command did not create.

    Args:
        outputs: option -> the file to write; None and `-` (standard output) are ignored.
        inputs: files and folders that the command reads.
        data: folders of data sets.
        overwrite: whether an existing file may be replaced.

    Raises:
        InputError: lists every unusable path, with its option and the reason.
    """
    files = {option: path for option, path in outputs.items() if path is not None and path != STDOUT}
    if not files:
        return

    input_paths = [Path(path) for path in inputs]
    folders = [*data, ROOT]
    problems = [
        f"{option} {shown(str(path))}: {reason}"
        for option, path in files.items()
        for reason in _reasons(path, input_paths, folders, overwrite)
    ]
    raise_all([*problems, *_shared_paths(files)], "invalid output path; nothing was done")


def _reasons(path: Path, inputs: list[Path], folders: list[Path], overwrite: bool) -> Iterator[str]:
    """Yield the first reason why a path must not be written, if there is one."""
    if path.is_dir():
        yield "is a folder; expected a file"
    elif (same := _same_file(path, inputs)) is not None:
        yield f"is the input {shown(str(same))}; use another file"
    elif path.suffix.lower() in PICTURE_SUFFIXES:
        yield f"has the suffix of an image, {path.suffix}; use another suffix"
    elif (folder := _containing(path, [*folders, *(path for path in inputs if path.is_dir())])) is not None:
        yield f"is in {shown(str(folder))}, which holds inputs or results; use a file in another folder"
    elif not path.parent.is_dir():
        yield f"the folder {shown(str(path.parent))} does not exist; create it first"
    elif not os.access(path.parent, os.W_OK):
        yield f"the folder {shown(str(path.parent))} is not writable"
    elif path.exists() and not path.is_file():
        yield "is not a regular file; use a file, or - for standard output"
    elif path.exists() and not overwrite:
        yield "already exists; remove it, use another file, or add --overwrite"


def _shared_paths(files: Mapping[str, Path]) -> Iterator[str]:
    """Yield a line for each pair of options that name the same file."""
    first: dict[Path, str] = {}
    for option, path in files.items():
        other = first.setdefault(path.resolve(), option)
        if other != option:
            yield f"{option} and {other} are the same file, {shown(str(path))}; use two files"


def _same_file(path: Path, inputs: list[Path]) -> Path | None:
    """Return the input that is the same file as `path`, also through links."""
    if not path.exists():
        return next((other for other in inputs if other == path), None)
    for other in inputs:
        with suppress(OSError, ValueError):  # the input does not exist, or its path cannot be one
            if other.samefile(path):
                return other
    return None


def _containing(path: Path, folders: list[Path]) -> Path | None:
    """Return the first of the folders that contains `path`, with links resolved; None if there is none."""
    parent = path.parent.resolve()
    return next((folder for folder in folders if parent.is_relative_to(folder.resolve())), None)


def check_folder(option: str, folder: Path, *, data: Iterable[Path] = ()) -> None:
    """Check a folder that a command adds files to; it need not exist.

    Raises:
        InputError: it is no folder, or lies in a data set or in the artifacts.
    """
    problem = None
    if folder.exists() and not folder.is_dir():
        problem = "is no folder"
    elif (holder := _containing(folder / "file", [*data, ROOT])) is not None:
        problem = f"is in {shown(str(holder))}, which holds inputs or results; use another folder"
    if problem:
        raise InputError(f"{option} {shown(str(folder))}: {problem}")


def check_new_file(option: str, path: Path, *, inputs: Iterable[Path] = (), data: Iterable[Path] = ()) -> None:
    """Check an output path like `check_outputs`, for a command that never replaces a file.

    Raises:
        InputError: the path is unusable.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{option} {shown(str(path))}: already exists; remove it, or use another file")
    check_outputs({option: path}, inputs=inputs, data=data)
