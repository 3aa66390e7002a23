"""MATLAB's `.mat` of Xian et al.: `features` (D, N), `labels` and `image_files`, and beside it the splits.

Format: "Zero-Shot Learning - A Comprehensive Evaluation of the Good, the Bad and the Ugly", its data (res101.mat and
att_splits.mat, or sent_splits.mat). Counts there begin at 1.
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

PARTS = {"trainval_loc": "train", "test_seen_loc": "test", "test_unseen_loc": "test"}
SPLITS_REMEDY = "the splits (*_splits.mat) are to lie beside the features"


class Mat(Format):
    """The features' file; the splits' is the one `*_splits.mat` beside it.

    `trainval_loc` is train; `val_loc`, a part of it with classes of its own, is not used, so val is empty.
    """

    def files(self, source: Path) -> list[Path]:
        """The features' and the splits' file."""
        found = sorted(source.parent.glob("*_splits.mat"))
        if len(found) != 1:
            raise InputError(f"{source.parent} has {len(found)} files *_splits.mat, not one; {SPLITS_REMEDY}")
        return [source, found[0]]

    def read(self, source: Path, keys: Mapping[str, str]) -> FeatureFile:
        """Read both files."""
        if keys:
            raise InputError("--key has no use for a .mat file, in which the names are Xian's")
        _, beside = self.files(source)
        images = MatFile(source, ("features", "labels", "image_files"))
        said = MatFile(beside, (*PARTS, "allclasses_names"))
        features = images.array("features").T
        columns = {
            "features": features,
            "labels": _from_one(images, "labels"),
            "ids": np.array(images.texts("image_files"), np.str_),
            "splits": _splits(said, len(features)),
        }
        return FeatureFile([block_of(columns, {}, str(source), None)], said.texts("allclasses_names"))


def _from_one(file: MatFile, name: str) -> NDArray[np.int64]:
    """Counts from 1 as positions from 0."""
    numbers = file.numbers(name)
    if (numbers < 1).any():
        raise InputError(f"{file.path}: {name} must be whole numbers from 1")
    return numbers - 1


def _splits(said: MatFile, rows: int) -> NDArray[Any]:
    """The split of each row, which must stand in exactly one list."""
    splits, times = np.full(rows, "train", "U5"), np.zeros(rows, np.int64)
    for name, split in PARTS.items():
        places = _from_one(said, name)
        if len(places) and places.max() >= rows:
            raise InputError(f"{said.path}: {name} goes up to row {places.max() + 1:,}, but there are {rows:,}")
        splits[places] = split
        np.add.at(times, places, 1)
    raise_all(
        [
            f"{np.count_nonzero(wrong):,} rows stand in {how}, the first is {int(wrong.argmax()) + 1:,}"
            for how, wrong in {"none of them": times == 0, "several, or twice": times > 1}.items()
            if wrong.any()
        ],
        f"{said.path}: each row must stand in one of {', '.join(PARTS)}",
    )
    return splits
