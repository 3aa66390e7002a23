"""The block of `data.sets` for a user's images: a folder, a table or archives."""

from __future__ import annotations

import csv
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.datasets.image_shards import suggested_options
from features.errors import InputError, Problems, nearest, raise_all
from features.shards.archives import Base, archives_named, is_address
from features.shards.tables import holds_images
from features.splits.folder_layout import ask_about_levels, has_split_folders
from features.splits.image_files import find_images
from features.splits.label_table import SUFFIXES, known_columns

if TYPE_CHECKING:
    from pipeline.cli.new_task import ClassFrom, NewTask


def dataset_block(new: NewTask, root: Path, problems: Problems) -> tuple[dict[str, Any], bool, bool]:
    """Return the block of `data.sets` without the class names, whether its path is absolute, and whether it is clear.

    It is clear if the images exist and their folders have one meaning.
    """
    images, table = Path(new.images), _table(new)
    is_table = table is not None
    exists = table.is_file() if table is not None else images.is_dir()
    if exists and table is not None and table.suffix.lower() not in SUFFIXES:
        exists = False
        problems.messages.append(
            f"--images {new.images}: {table.suffix or 'this file'} is not read as a table; save it as CSV (UTF-8) with "
            f"the columns path and label. Read are {', '.join(SUFFIXES)}"
        )
    elif not exists:
        neighbours = map(str, images.parent.glob(f"[!.]*{images.suffix if is_table else '/'}"))
        suggestion = nearest(str(images), neighbours).partition("known:")[0]
        problems.messages.append(
            f"--images {new.images}: no such {'file' if is_table else 'folder'}; {suggestion}expected a folder with "
            "one folder of images per class, a CSV or Parquet file with the columns path and label, or archives"
        )

    folder = folder_of(new)
    inside_root = folder.is_relative_to(root.resolve())
    block: dict[str, Any] = {
        "reader": "image_table" if is_table else "image_folder",
        "path": folder.relative_to(root.resolve()).as_posix() if inside_root else str(folder),
    }
    if table is not None:
        block["table"] = table.name
    elif exists:
        options = problems.attempt(partial(_folder_options, folder, new.class_from))
        exists = options is not None
        block |= options or {}

    return block, not inside_root, exists


def in_archives(images: str) -> tuple[Base, str] | None:
    """Return the base and the pattern of archives of images; None if the images are files."""
    if not is_address(images) and Path(images).is_dir() and find_images(Path(images)).images:
        return None  # an archive beside images is what they were unpacked from
    return archives_named(images, holds_images)


def shards_block(base: Base, shards: str, root: Path, problems: Problems) -> tuple[dict[str, Any], bool, bool]:
    """Return the same for images in archives."""
    inside_root = isinstance(base, Path) and base.resolve().is_relative_to(root.resolve())
    if isinstance(base, Path):
        path = base.resolve().relative_to(root.resolve()).as_posix() if inside_root else str(base.resolve())
    else:
        path = base
    options = problems.attempt(partial(suggested_options, path, shards, root))
    block = {"reader": "image_shards", "path": path, "shards": shards, **(options or {})}
    return block, isinstance(base, Path) and not inside_root, options is not None


def common_options(new: NewTask, problems: Problems) -> dict[str, Any]:
    """Return the options that every reader of own images has."""
    block: dict[str, Any] = {}
    if new.templates:
        block["templates"] = list(new.templates)
    if new.split_seed:
        block["split_seed"] = new.split_seed

    for option, file, key, value in (
        ("rename", new.aliases, "label", "name"),
        ("descriptions", new.descriptions, "name", "description"),
    ):
        mapping = problems.attempt(partial(read_mapping, file, key, value)) if file is not None else None
        if mapping:
            block[option] = mapping
    return block


def _table(new: NewTask) -> Path | None:
    """Return the table that a user names, or the metadata of a folder of images without class folders, else None."""
    images = Path(new.images)
    if images.is_file() or (images.suffix.lower() in SUFFIXES and not images.is_dir()):
        return images
    metadata = [images / f"metadata{suffix}" for suffix in SUFFIXES]  # as Hugging Face's imagefolder has it
    found = next((file for file in metadata if file.is_file()), None)
    return found if found and "label" in known_columns(found) else None


def folder_of(new: NewTask) -> Path:
    """Return the folder that the paths of images which are files are relative to."""
    table = _table(new)
    return (Path(new.images) if table is None else table.parent).resolve()


def _folder_options(folder: Path, class_from: ClassFrom | None) -> dict[str, Any]:
    """Return the options of `image_folder` that the folders in a folder ask for.

    Raises:
        InputError: the folders can be understood in several ways.
    """
    found = find_images(folder)
    try:
        splits = has_split_folders(folder, found)
    except InputError:
        if class_from is None:
            raise
        splits = False  # the user says that they are classes

    question = ask_about_levels(folder, found, splits=splits)
    if question and class_from is None:
        raise InputError(question)
    return {
        **({"splits": "folders"} if splits else {}),
        **({"class_from": class_from} if class_from == "last" else {}),
    }


def read_mapping(file: Path, key: str, value: str) -> dict[str, str]:
    """Read a CSV file with two columns as a mapping.

    Args:
        file: the CSV file; its first line has the names of the columns.
        key: name of the first column.
        value: name of the second column.

    Raises:
        InputError: the file cannot be read, has other columns, a key without a value, or a key more than once.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, strict=True)
            lines = list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"cannot read {file} as CSV in UTF-8: {error}") from error

    columns = list(reader.fieldnames or [])
    if columns != [key, value]:
        raise InputError(f"{file}: invalid first line {','.join(columns)!r}: expected {key},{value}")

    empty = [f"line {n}: {line[key]!r} has no {value}" for n, line in enumerate(lines, start=2) if not line[value]]
    counts = Counter(line[key] for line in lines)
    repeated = [f"{name!r} is listed {n} times" for name, n in counts.items() if n > 1]
    raise_all([*empty, *repeated], f"{file} is invalid")
    return {line[key]: line[value] for line in lines}
