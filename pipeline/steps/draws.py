"""Few-shot draws from files: CoOp's `split_fewshot` folders and the `indices` of the cross-modal adaptation authors.

A file `shot_16-seed_1` lists image paths. Our own index knows the split and the class of each image, so only the texts
in the file are read. CoOp's files are pickles. They are never loaded, because loading a pickle can run any program.
Their opcodes can be listed safely, and the texts are among the opcodes' arguments.
"""

from __future__ import annotations

import json
import pickletools
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError, raise_all
from features.index_table import Index
from features.splits.listed import EXTENSIONS

FOLDER = Path("draws")  # a dep of stage `build_task`, so that DVC notices a new file
DrawnRows = tuple[NDArray[np.int64], NDArray[np.int64]]


def draw_file(folder: str, dataset: str, shots: int | None, seed: int) -> Path:
    """Return the path of `draws/<folder>/<dataset>/shot_<shots>-seed_<seed>` with suffix `.json` or `.pkl`.

    Raises:
        InputError: the file does not exist.
    """
    stem = FOLDER / folder / dataset / f"shot_{shots}-seed_{seed}"

    for suffix in (".json", ".pkl"):
        path = stem.with_name(stem.name + suffix)
        if path.is_file():
            return path

    raise InputError(
        f"{stem}.json and {stem}.pkl do not exist: copy CoOp's split_fewshot/ of {dataset}, or the indices/ of the "
        f"cross-modal adaptation authors, to {stem.parent}, or set `draws: seed`"
    )


def read_draw(path: Path, index: Index, classes: Mapping[int, str], shots: int | None) -> DrawnRows:
    """Return the rows of the splits train and val that a draw file lists.

    Args:
        path: path of the file, from `draw_file`.
        index: index of its data set.
        classes: class id -> name of the classes to draw. Images of other classes are left out, as base-to-new does.
        shots: rows per class.

    Returns:
        (M,) and (V,) int64 rows in ascending order; V is 0 if the file has no validation images.

    Raises:
        InputError: the file lists images that the index lacks, or a class with another number of images than `shots`.
    """
    row_of = dict(zip(index.paths, _rows_in_split(index), strict=True))
    position = {name: i for i, name in enumerate(index.paths)}

    rows: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    train_counts = Counter[int]()
    unknown = []
    for text in dict.fromkeys(_texts(path)):  # without duplicates, in order
        # A file holds other texts too, such as class names.
        if PurePosixPath(text).suffix.lower() not in EXTENSIONS:
            continue

        name = _indexed_path(text, position)
        if name is None:
            unknown.append(text)
            continue

        class_id = int(index.class_ids[position[name]])
        split = index.splits[position[name]]
        if class_id in classes:
            rows[split].append(row_of[name])
            train_counts[class_id] += split == "train"

    problems = [f"{text}: not in the index" for text in unknown]
    if rows["test"]:
        problems.append(f"{len(rows['test'])} images are test images")
    problems += [
        f"{name!r}: {train_counts[class_id]} images"
        for class_id, name in classes.items()
        if train_counts[class_id] != shots
    ]
    raise_all(problems, f"{path} is not a draw of {shots} images per class from this data set and split")

    return np.array(sorted(rows["train"]), np.int64), np.array(sorted(rows["val"]), np.int64)


def _texts(path: Path) -> Iterator[str]:
    """Yield every text in a JSON file or a pickle, in order, without running or creating what the pickle describes."""
    try:
        if path.suffix == ".pkl":
            for _, argument, _ in pickletools.genops(path.read_bytes()):
                if isinstance(argument, str):
                    yield argument.replace("\\", "/")
        else:
            yield from _leaves(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _leaves(value: object) -> Iterator[str]:
    """Yield every text in a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)


def _indexed_path(text: str, paths: Mapping[str, int]) -> str | None:
    """Return the path of the index that is the end of another machine's path, or None."""
    parts = text.split("/")
    for i in range(len(parts)):
        tail = "/".join(parts[i:])
        if tail in paths:
            return tail
    return None


def _rows_in_split(index: Index) -> Iterator[int]:
    """Yield for each image its row among the features of its split."""
    seen = Counter[str]()
    for split in index.splits:
        yield seen[split]
        seen[split] += 1
