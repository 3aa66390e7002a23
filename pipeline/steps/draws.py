"""Few-shot draws that others made: CoOp's `split_fewshot` folders and the cross-modal authors' `indices`.

A file `shot_16-seed_1` names images; which split and class an image has, our own index says. So all that is read are
the texts in the file. Of CoOp's `.pkl` they are read without loading it: a pickle can run any program, its list of
instructions cannot.
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
from features.index import Index
from features.splits.listed import EXTENSIONS

FOLDER = Path("draws")  # of the project, a dep of stage `build_task`, so that DVC sees a new file
Drawn = tuple[NDArray[np.int64], NDArray[np.int64]]


def draw_file(folder: str, dataset: str, shots: int | None, seed: int) -> Path:
    """The file `draws/<folder>/<dataset>/shot_<shots>-seed_<seed>`, `.json` or `.pkl`.

    Raises:
        InputError: there is none.
    """
    stem = FOLDER / folder / dataset / f"shot_{shots}-seed_{seed}"
    for suffix in (".json", ".pkl"):
        if (path := stem.with_name(stem.name + suffix)).is_file():
            return path
    raise InputError(
        f"there is no {stem}.json or .pkl: copy CoOp's split_fewshot/ of {dataset}, or the cross-modal authors' "
        f"indices/, to {stem.parent}, or take `draws: seed`"
    )


def listed(path: Path, index: Index, classes: Mapping[int, str], shots: int | None) -> Drawn:
    """Rows of the splits train and val that a draw's file names.

    Args:
        path: of the file, from `draw_file`.
        index: of its data set.
        classes: class id -> name, of the classes to draw; images of others are left out, as base-to-new does.
        shots: rows per class.

    Returns:
        (M,) and (V,) int64 rows, ascending; V is 0 where the file has no validation images.

    Raises:
        InputError: images in the file that the index has not, or classes with another number of images.
    """
    row_of = dict(zip(index.paths, _rows_in_split(index), strict=True))
    position = {name: i for i, name in enumerate(index.paths)}
    rows: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    counts, strange = Counter[int](), []
    for text in dict.fromkeys(_texts(path)):
        if PurePosixPath(text).suffix.lower() not in EXTENSIONS:
            continue
        if (name := _known(text, position)) is None:
            strange.append(text)
            continue
        class_id, split = int(index.class_ids[position[name]]), index.splits[position[name]]
        if class_id in classes:
            rows[split].append(row_of[name])
            counts[class_id] += split == "train"
    problems = [f"{text}: not in the index" for text in strange]
    problems += [f"{len(rows['test'])} images are test images"] if rows["test"] else []
    problems += [f"{name!r}: {counts[c]} images" for c, name in classes.items() if counts[c] != shots]
    raise_all(problems, f"{path} is no draw of {shots} images a class of this data set and split")
    return np.array(sorted(rows["train"]), np.int64), np.array(sorted(rows["val"]), np.int64)


def _texts(path: Path) -> Iterator[str]:
    """Every text in a JSON file or a pickle, in order; nothing in it is run or built."""
    try:
        if path.suffix == ".pkl":
            arguments = (argument for _, argument, _ in pickletools.genops(path.read_bytes()))
            yield from (argument.replace("\\", "/") for argument in arguments if isinstance(argument, str))
        else:
            yield from _leaves(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _leaves(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)


def _known(text: str, paths: Mapping[str, int]) -> str | None:
    """The index's path that another machine's path ends with."""
    parts = text.split("/")
    return next((tail for i in range(len(parts)) if (tail := "/".join(parts[i:])) in paths), None)


def _rows_in_split(index: Index) -> Iterator[int]:
    """Each image's row in its split's features."""
    met = Counter[str]()
    for split in index.splits:
        yield met[split]
        met[split] += 1
