"""Checks of output paths given by the user, before any work starts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from features.errors import InputError, raise_all, shown
from features.formats.files import part_path
from features.splits.image_files import IMAGE_SUFFIXES, RAW_SUFFIXES
from features.splits.own_images import NAMES
from pipeline.artifacts.paths import ROOT
from pipeline.cli.data_list import data_paths
from pipeline.config.params import PATH, Params
from pipeline.executor.repository import LOCK, TEMPORARY

# All common image formats, including those that the pipeline cannot read.
PICTURE_SUFFIXES = IMAGE_SUFFIXES | RAW_SUFFIXES | {".svg"}
STDOUT = Path("-")
TEXTS = ("--csv", "--json")  # options whose output may go to standard output
OWN = (ROOT, NAMES, PATH, LOCK, Path("dvc.yaml"), TEMPORARY.parent, Path(".git"))  # what no command may write to


def project_inputs(params: Params) -> list[Path]:
    """Return the user's files and folders that a project reads, whether or not they exist: images, labels, weights."""
    return [*data_paths(params), *(path for spec in params.encoders.values() for path in spec.paths)]


def check_outputs(
    outputs: Mapping[str, Path | None], *, inputs: Iterable[str | Path] = (), overwrite: bool = False
) -> None:
    """Check that writing to the output paths destroys nothing that this command did not create.

    Args:
        outputs: option -> the file to write; None is ignored. One of `TEXTS` may be `-`, standard output.
        inputs: files and folders that the command or the project reads.
        overwrite: whether an existing file may be replaced.

    Raises:
        InputError: lists every unusable path, with its option and the reason.
    """
    named = {option: path for option, path in outputs.items() if path is not None}
    files = {option: path for option, path in named.items() if path != STDOUT}
    streams = [option for option in named if option not in files]
    kept = [*map(Path, inputs), *OWN] if files else []
    wrong = [option for option in streams if option not in TEXTS]
    problems = [f"{option} -: only {' and '.join(TEXTS)} write to standard output" for option in wrong]
    if len(streams) > 1:
        problems.append(f"{' and '.join(streams)} are both standard output; use a file for all but one")
    problems += [
        f"{option} {shown(str(path))}: {reason}"
        for option, path in files.items()
        for reason in _reasons(path, kept, overwrite)
    ]
    raise_all([*problems, *_shared_paths(files)], "invalid output path; nothing was done")


def _reasons(path: Path, kept: list[Path], overwrite: bool) -> Iterator[str]:
    """Yield the first reason why a path must not be written, if there is one; `kept` are files and folders to keep."""
    if problem := _unusable(path):
        yield problem
    elif path.is_dir():
        yield "is a folder; expected a file"
    elif (same := _same_file(path, kept)) is not None:
        yield f"is the input {shown(str(same))}; use another file"
    elif path.suffix.lower() in PICTURE_SUFFIXES:
        yield f"has the suffix of an image, {path.suffix}; use another suffix"
    elif (folder := _containing(path, kept)) is not None:
        yield f"is in {shown(str(folder))}, which holds inputs or results; use a file in another folder"
    elif not path.parent.is_dir():
        yield f"the folder {shown(str(path.parent))} does not exist; create it first"
    elif not os.access(path.parent, os.W_OK):
        yield f"the folder {shown(str(path.parent))} is not writable"
    elif path.exists() and not path.is_file():
        yield "is not a regular file; use a file, or - for standard output"
    elif os.path.lexists(path) and not overwrite:  # a link to a file that does not exist is somebody's, too
        yield "already exists; remove it, use another file, or add --overwrite"


def _unusable(path: Path) -> str | None:
    """Return why the system allows no file of this name: it is too long, or a parent is a file or cannot be entered."""
    try:
        part_path(path.absolute()).stat()
    except (FileNotFoundError, ValueError):  # the parent does not exist, or the path is the root
        return None
    except OSError as error:
        return f"cannot be written: {error.strerror}"
    return None


def _shared_paths(files: Mapping[str, Path]) -> Iterator[str]:
    """Yield a line for each pair of options that name the same file."""
    first: dict[Path, str] = {}
    for option, path in files.items():
        other = first.setdefault(path.parent.resolve() / path.name, option)
        if other != option:
            yield f"{option} and {other} are the same file, {shown(str(path))}; use two files"


def _same_file(path: Path, kept: list[Path]) -> Path | None:
    """Return the file to keep that is the same file as `path`, also through links."""
    if not path.exists():
        return next((other for other in kept if other == path), None)
    for other in kept:
        with suppress(OSError, ValueError):  # it does not exist, or its path cannot be one
            if other.samefile(path):
                return other
    return None


def _containing(path: Path, kept: Iterable[Path]) -> Path | None:
    """Return the first of the folders to keep that contains `path`, with links resolved; None if there is none."""
    parent = path.parent.resolve()
    return next((folder for folder in kept if folder.is_dir() and parent.is_relative_to(folder.resolve())), None)


def check_folder(option: str, folder: Path, *, inputs: Iterable[Path] = ()) -> None:
    """Check a folder that a command adds files to; it need not exist, but its parent must.

    Raises:
        InputError: it is not a folder, cannot be made or written to, or lies in a data set or in the artifacts.
    """
    problem = None
    there = folder if os.path.lexists(folder) else folder.parent
    if not there.is_dir():
        problem = (
            f"{shown(str(there))} is not a folder" if os.path.lexists(there) else f"{shown(str(there))} does not exist"
        )
    elif folder.suffix.lower() in PICTURE_SUFFIXES:
        problem = f"has the suffix of an image, {folder.suffix}; use another name"
    elif (holder := _containing(folder / "file", [*inputs, *OWN])) is not None:
        problem = f"is in {shown(str(holder))}, which holds inputs or results; use another folder"
    elif not os.access(there, os.W_OK):
        problem = f"{shown(str(there))} is not writable"
    if problem:
        raise InputError(f"{option} {shown(str(folder))}: {problem}")


def check_new_file(option: str, path: Path, *, inputs: Iterable[Path] = ()) -> None:
    """Check an output path like `check_outputs`, for a command that never replaces a file.

    Raises:
        InputError: the path is unusable.
    """
    if os.path.lexists(path) and not path.is_dir():
        raise InputError(f"{option} {shown(str(path))}: already exists; remove it, or use another file")
    check_outputs({option: path}, inputs=inputs)
