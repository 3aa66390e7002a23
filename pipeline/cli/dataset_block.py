"""The block of `data.sets` for a user's images: a folder, a table or archives."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from features.datasets.image_shards import suggested_options
from features.errors import InputError, Problems, nearest, raise_all
from features.formats.plain_text import decoded
from features.shards.archives import Base, archives_named
from features.shards.tables import holds_images
from features.splits.folder_layout import ask_about_levels, has_split_folders, holds_boxes, split_in_name, split_of
from features.splits.image_files import Found, examples, find_images
from features.splits.label_table import SUFFIXES, holds_labels, image_paths

if TYPE_CHECKING:
    from pipeline.cli.new_task import ClassFrom, NewTask

# Files with labels as Hugging Face's imagefolder, Roboflow, CVAT, COCO and Datumaro name them, beside the images or in
# each folder of a split.
METADATA = "metadata.*"
TOOLS = ("_classes.csv", "_annotations.csv", "_annotations.coco.json", "annotations.xml", "annotations/*.json")
PACKED = frozenset({".7z", ".bz2", ".gz", ".rar", ".tgz", ".xz", ".zip", ".zst"})


class Block(NamedTuple):
    """The block of `data.sets` of a user's images.

    Attributes:
        options: its content, without the class names.
        absolute: whether its path is absolute.
        clear: whether the images exist and their folders have one meaning.
        folder: the folder that the paths of images are relative to, or the address of archives.
        notes: how the input was understood, one line each.
    """

    options: dict[str, Any]
    absolute: bool
    clear: bool
    folder: Base
    notes: tuple[str, ...] = ()


def dataset_block(new: NewTask, found: Found, root: Path, problems: Problems) -> Block:
    """Return the block of images that are files; `found` is the content of the folder, if one is named."""
    images = Path(new.images)
    tables = problems.attempt(partial(_tables, images, found))
    if tables is None or not _exists(images, is_table=bool(tables), problems=problems):
        return Block({"reader": "image_folder", "path": str(images)}, absolute=False, clear=False, folder=images)

    folder = (_folder_of_tables(tables) if tables else images).resolve()
    inside_root = folder.is_relative_to(root.resolve())
    path = folder.relative_to(root.resolve()).as_posix() if inside_root else str(folder)
    names = [_relative(table.resolve(), folder) for table in tables]
    if tables:
        options: dict[str, Any] | None = {"table": names if len(names) > 1 else names[0]}
    else:
        options = problems.attempt(partial(_folder_options, folder, found, new.class_from))
    block = {"reader": "image_table" if tables else "image_folder", "path": path, **(options or {})}
    notes = (f"labels are read from {examples(names)}",) if tables and images.is_dir() else ()
    return Block(block, not inside_root, options is not None, folder, notes)


def _exists(images: Path, *, is_table: bool, problems: Problems) -> bool:
    """Return whether the images that a user names exist; else add what is wrong to `problems`."""
    if images.is_dir():
        return True
    if images.is_file():
        if images.suffix.lower() in SUFFIXES:
            return True
        not_read = (
            f"{images.suffix or 'this file'} is not read as a table; save it as CSV (UTF-8) with the columns path and "
            f"label. Supported formats: {', '.join(SUFFIXES)}"
        )
        unpack = "unpack it, and give the folder; tars, Parquet and Arrow files are read as they are"
        problems.messages.append(f"--images {images}: {unpack if images.suffix.lower() in PACKED else not_read}")
        return False

    neighbours = map(str, images.parent.glob(f"[!.]*{images.suffix if is_table else '/'}"))
    suggestion = nearest(str(images), neighbours).partition("known:")[0]
    problems.messages.append(
        f"--images {images}: no such {'file' if is_table else 'folder'}; {suggestion}expected a folder with one folder "
        "of images per class, a CSV or Parquet file with the columns path and label, or archives"
    )
    return False


def in_archives(images: str, found: Found) -> tuple[Base, str] | None:
    """Return the base and the pattern of archives of images; None if the images are files."""
    if found.images:
        return None  # an archive beside images is what they were unpacked from
    return archives_named(images, holds_images)


def shards_block(new: NewTask, base: Base, shards: str, root: Path, problems: Problems) -> Block:
    """Return the block of images in archives."""
    inside_root = isinstance(base, Path) and base.resolve().is_relative_to(root.resolve())
    if isinstance(base, Path):
        path = base.resolve().relative_to(root.resolve()).as_posix() if inside_root else str(base.resolve())
    else:
        path = base
    options = problems.attempt(partial(suggested_options, path, shards, root, new.max_pixels))
    block = {"reader": "image_shards", "path": path, "shards": shards, **(options or {})}
    return Block(block, isinstance(base, Path) and not inside_root, options is not None, base)


def common_options(new: NewTask, problems: Problems) -> dict[str, Any]:
    """Return the options that every reader of own images has."""
    block: dict[str, Any] = {}
    if new.templates:
        block["templates"] = list(new.templates)
    if new.split_seed:
        block["split_seed"] = new.split_seed
    if new.max_pixels is not None:
        block["max_pixels"] = new.max_pixels

    for option, file, key, value in (
        ("rename", new.aliases, "label", "name"),
        ("descriptions", new.descriptions, "name", "description"),
    ):
        mapping = problems.attempt(partial(read_mapping, file, key, value)) if file is not None else None
        if mapping:
            block[option] = mapping
    return block


def _tables(images: Path, found: Found) -> list[Path]:
    """Return the tables of labels that a user names, or those in a folder; none if its class folders are the labels.

    Raises:
        InputError: the images have no class folders, and it is not clear which tables have their labels.
    """
    if not images.is_dir():
        return [images] if images.is_file() or images.suffix.lower() in SUFFIXES else []
    for pattern in (place for name in (METADATA, *TOOLS) for place in (name, f"*/{name}")):
        files = [file for file in images.glob(pattern) if file.suffix.lower() in SUFFIXES]
        labelled = [file for file in files if holds_labels(file)]
        if labelled or (files and METADATA not in pattern):  # what is wrong with the file of a tool is reported
            return sorted(labelled or files)

    folders = {path.rpartition("/")[0].rpartition("/")[2] for path in found.images}
    if len({name for name in folders if name and not split_of(name)}) > 1:
        return []
    # A competition's example of a submission has labels, which are no answers.
    beside = [
        file
        for file in images.iterdir()
        if file.suffix.lower() in SUFFIXES and file.is_file() and "submission" not in file.name.lower()
    ]
    tables = sorted(file for file in beside if holds_labels(file))
    if len(tables) > 1 and not all(split_in_name(table.name) for table in tables):
        raise InputError(
            f"{images}: several tables have labels ({examples([table.name for table in tables])}): give the one to "
            f"read, as --images '{tables[0]}'"
        )
    return tables


def _folder_of_tables(tables: Sequence[Path]) -> Path:
    """Return the folder that holds the images of tables, which may lie elsewhere."""
    folder = Path(os.path.commonpath([table.resolve().parent for table in tables]))
    paths = [path for table in tables for path in image_paths(table)]
    absolute = [path for path in paths if os.path.isabs(path) and os.path.isfile(path)]  # noqa: PTH113, PTH117
    if any(not Path(path).is_relative_to(folder) for path in absolute):
        return Path(os.path.commonpath([os.path.dirname(path) for path in absolute]))  # noqa: PTH120 (many rows)
    # The folder may be a home with a million files, so it is walked only if the paths do not lead to images.
    if not paths or any(os.path.isfile(folder / path) for path in paths):  # noqa: PTH113 (many rows)
        return folder
    # COCO and Datumaro have `images` beside `annotations`.
    return folder if find_images(folder).images else folder.parent


def _relative(file: Path, folder: Path) -> str:
    """Return a file's path below a folder; its absolute path if it is elsewhere."""
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file)


def _folder_options(folder: Path, found: Found, class_from: ClassFrom | None) -> dict[str, Any]:
    """Return the options of `image_folder` that the folders in a folder ask for.

    Raises:
        InputError: the folders can be understood in several ways.
    """
    if class_from is None and holds_boxes(found):
        raise InputError(
            f"{folder} has bounding boxes in folders called labels (object detection), which are not supported: "
            "put each image, or a crop of each object, into a folder with the name of its class"
        )
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
    """Read a CSV file with two columns, with commas, semicolons or tabs between them, as a mapping.

    Args:
        file: the CSV file; its first line has the names of the columns.
        key: name of the first column.
        value: name of the second column.

    Raises:
        InputError: the file cannot be read, has other columns, a key without a value, or a key more than once.
    """
    try:
        text, not_utf8 = decoded(file.read_bytes())
        first = text.partition("\n")[0]
        delimiter = next((one for one in ",;\t" if _heading(first.split(one)) == [key, value]), ",")
        rows = [*csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"cannot read {file} as CSV in UTF-8: {error}") from error
    if not_utf8:
        raise InputError(f"cannot read {file} as CSV in UTF-8: save it so, because the accents in it are not certain")

    if not rows or _heading(rows[0]) != [key, value]:
        raise InputError(f"{file}: invalid first line {','.join(rows[0] if rows else [])!r}: expected {key},{value}")

    lines = [[cell.strip() for cell in row] for row in rows]
    numbered = [(number, line) for number, line in enumerate(lines[1:], start=2) if any(line)]
    empty = [f"line {n}: {line[0]!r} has no {value}" for n, line in numbered if len(line) < 2 or not line[1]]
    longer = [
        f"line {n}: {line[0]!r} has more than one {value}: put a text that contains {delimiter!r} into double quotes"
        for n, line in numbered
        if any(line[2:])
    ]
    counts = Counter(line[0] for _, line in numbered)
    repeated = [f"{name!r} is listed {n} times" for name, n in counts.items() if n > 1]
    raise_all([*empty, *longer, *repeated], f"{file} is invalid")
    return {line[0]: line[1] for _, line in numbered}


def _heading(cells: Sequence[str]) -> list[str]:
    """Return the names of columns as they are compared, without those that are empty at the end of a line."""
    names = [cell.strip(' "\r').casefold() for cell in cells]
    return [name for i, name in enumerate(names) if any(names[i:])]
