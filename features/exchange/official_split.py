"""Name the rows of a feature file after a published data set: its classes, its prompts, and the images of its split.

Files that keep features and labels alone, such as Tip-Adapter's caches, have their rows in the order of CoOp's split
file. If each label of a split is that of the split file, the image of each row is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import features.datasets
from features.datasets.base import Reader, Rows, Split
from features.errors import InputError, nearest, raise_all
from features.exchange.rows import SplitArrays
from features.lookup import find
from features.splits.own_images import read_names_file
from features.splits.split_zhou import SplitReader, read_split


@dataclass(frozen=True)
class OfficialSplit:
    """The split of a published data set, as its authors or CoOp's published it.

    Attributes:
        dataset: The name of its reader.
        classes: C class names by label.
        templates: Its prompts.
        rows: (Image path, label) of each split, in the file's order.
    """

    dataset: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    rows: Rows


def official_split(dataset: str) -> OfficialSplit:
    """Return the split that the package has of a data set.

    Raises:
        InputError: There is no reader of this name, or the package has no split file of it.
    """
    reader = find(features.datasets, dataset, Reader)
    if not issubclass(reader, SplitReader) or reader.packaged_split is None:
        raise InputError(
            f"--split-of {dataset}: the package has no split file of it; pass --classes and --rows instead"
        )
    classes, rows = read_split(reader.packaged_split)
    return OfficialSplit(dataset, classes, reader.published_templates(), rows)


def with_image_paths(splits: Mapping[Split, SplitArrays], official: OfficialSplit) -> dict[Split, SplitArrays]:
    """Return the rows with the paths of their images as ids.

    Training rows keep their numbers if they are a part of the official ones: nothing says which images were drawn.

    Raises:
        InputError: Validation or test rows have other labels than the split file, in number or in order.
    """
    named, problems = {}, []
    for split, arrays in splits.items():
        known = [label for _, label in official.rows[split]]
        labels = arrays.labels.tolist()
        drawn = split == "train" and len(labels) < len(known)
        if labels == known:
            named[split] = replace(arrays, ids=tuple(path for path, _ in official.rows[split]))
        elif drawn or not labels:
            named[split] = arrays
        else:
            problems.append(_difference(split, labels, known))
    raise_all(problems, f"the rows do not follow the official split of {official.dataset}")
    return named


def _difference(split: Split, labels: Sequence[int], known: Sequence[int]) -> str:
    if len(labels) != len(known):
        return f"{split}: {len(labels):,} rows, {len(known):,} in the split"
    first = next(row for row, (ours, theirs) in enumerate(zip(labels, known, strict=True)) if ours != theirs)
    return f"{split}: row {first} has label {labels[first]}, {known[first]} in the split"


def only_classes(
    splits: Mapping[Split, SplitArrays], classes: Sequence[str], file: Path
) -> tuple[dict[Split, SplitArrays], tuple[str, ...]]:
    """Return the rows of the classes that a text file names, and these classes in their old order.

    Raises:
        InputError: The file cannot be read, or names what is no class; each is listed.
    """
    kept = read_names_file(file)
    raise_all([f"{name!r}; {nearest(name, classes)}" for name in kept if name not in classes], f"{file}: no such class")

    old = np.flatnonzero(np.isin(list(classes), kept))
    new_label = np.full(len(classes), -1, np.int32)
    new_label[old] = np.arange(len(old))

    selected = {}
    for split, arrays in splits.items():
        rows = np.flatnonzero(new_label[arrays.labels] >= 0)
        selected[split] = SplitArrays(
            features=arrays.features[rows],
            labels=new_label[arrays.labels[rows]],
            valid=arrays.valid[rows],
            ids=tuple(arrays.ids[row] for row in rows.tolist()),
        )
    return selected, tuple(classes[label] for label in old.tolist())
