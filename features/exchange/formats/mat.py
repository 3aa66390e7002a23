"""Xian et al.'s MATLAB files: `features` (D, N), `labels` and `image_files`, and the splits in a second file.

Format: the data of "Zero-Shot Learning - A Comprehensive Evaluation of the Good, the Bad and the Ugly" (res101.mat and
att_splits.mat, or sent_splits.mat). Indices in these files start at 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError, raise_all
from features.exchange.formats.base import FeatureFile, Format, block_of
from features.formats.matlab import MatFile

SPLIT_OF_LIST = {"trainval_loc": "train", "test_seen_loc": "test", "test_unseen_loc": "test"}


class Mat(Format):
    """The file of the features; the splits are in the one file `*_splits.mat` beside it.

    `trainval_loc` becomes train. `val_loc`, a part of it with classes of its own, is not used, so val is empty.
    """

    def files(self, source: Path) -> list[Path]:
        """Return the features' and the splits' file."""
        candidates = sorted(source.parent.glob("*_splits.mat"))
        if len(candidates) != 1:
            raise InputError(
                f"{source.parent} has {len(candidates)} files *_splits.mat; put exactly one beside {source.name}"
            )
        return [source, candidates[0]]

    def read(self, source: Path, keys: Mapping[str, str]) -> FeatureFile:
        """Read both files."""
        if keys:
            raise InputError(f"--key does not apply to {source}: the names in a .mat file are Xian's")
        _, splits_file = self.files(source)
        images = MatFile(source, ("features", "labels", "image_files"))
        lists = MatFile(splits_file, (*SPLIT_OF_LIST, "allclasses_names"))

        features = images.array("features").T
        columns = {
            "features": features,
            "labels": _zero_based(images, "labels"),
            "ids": np.array(images.texts("image_files"), np.str_),
            "splits": _splits(lists, len(features)),
        }
        return FeatureFile([block_of(columns, {}, str(source), None)], lists.texts("allclasses_names"))


def _zero_based(file: MatFile, name: str) -> NDArray[np.int64]:
    """Return indices that start at 1 in the file as indices that start at 0."""
    numbers = file.numbers(name)
    if (numbers < 1).any():
        raise InputError(f"{file.path}: {name} must be whole numbers from 1 on")
    return numbers - 1


def _splits(lists: MatFile, rows: int) -> NDArray[Any]:
    """Return the split of each row, and check that each row is in exactly one list."""
    splits = np.full(rows, "train", "U5")
    times = np.zeros(rows, np.int64)
    for name, split in SPLIT_OF_LIST.items():
        positions = _zero_based(lists, name)
        if len(positions) and positions.max() >= rows:
            raise InputError(f"{lists.path}: {name} has row {positions.max() + 1:,}, but there are {rows:,} rows")
        splits[positions] = split
        np.add.at(times, positions, 1)

    problems = [
        f"{np.count_nonzero(wrong):,} rows are in {where}, the first is {int(wrong.argmax()) + 1:,}"
        for where, wrong in {"no list": times == 0, "several lists, or twice in one": times > 1}.items()
        if wrong.any()
    ]
    raise_all(problems, f"{lists.path}: each row must be in exactly one of {', '.join(SPLIT_OF_LIST)}")
    return splits
