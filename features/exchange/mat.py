"""MATLAB's `.mat` of Xian et al.: `features` (D, N), `labels` and `image_files`, and beside it the splits.

Format: "Zero-Shot Learning - A Comprehensive Evaluation of the Good, the Bad and the Ugly", its data (res101.mat and
att_splits.mat, or sent_splits.mat). Counts there begin at 1. Versions 5 (SciPy) and 7.3 (HDF5) are read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat, whosmat

from features import hdf5
from features.errors import InputError, raise_all
from features.exchange.base import REMEDY, Content, Format, block_of
from features.guard import parsing, refuse_hollow

NUMBERS, TEXTS = ("features", "labels"), ("image_files",)
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

    def read(self, source: Path, keys: Mapping[str, str]) -> Content:
        """Read both files."""
        if keys:
            raise InputError("--key has no use for a .mat file, in which the names are Xian's")
        _, beside = self.files(source)
        images = _variables(source, NUMBERS, TEXTS)
        said = _variables(beside, tuple(PARTS), ("allclasses_names",))
        features = images["features"].T
        columns = {
            "features": features,
            "labels": _from_one(images["labels"], source, "labels"),
            "ids": images["image_files"],
            "splits": _splits(said, len(features), beside),
        }
        return Content([block_of(columns, {}, str(source), None)], said["allclasses_names"].tolist())


def _from_one(values: NDArray[Any], path: Path, name: str) -> NDArray[np.int64]:
    """Whole numbers from 1, which MATLAB keeps as floats, as positions from 0."""
    plain = values.reshape(-1)
    if plain.dtype.kind not in "iuf" or not np.array_equal(plain, np.floor(plain)) or (plain < 1).any():
        raise InputError(f"{path}: {name} must be whole numbers from 1")
    if len(plain) and plain.max() > 2**31:
        raise InputError(f"{path}: {name} must be at most 2^31, not {plain.max():g}")
    return plain.astype(np.int64) - 1


def _splits(said: Mapping[str, NDArray[Any]], rows: int, path: Path) -> NDArray[Any]:
    """The split of each row, which must stand in exactly one list."""
    splits, times = np.full(rows, "train", "U5"), np.zeros(rows, np.int64)
    for name, split in PARTS.items():
        places = _from_one(said[name], path, name)
        if len(places) and places.max() >= rows:
            raise InputError(f"{path}: {name} goes up to row {places.max() + 1:,}, but there are {rows:,}")
        splits[places] = split
        np.add.at(times, places, 1)
    raise_all(
        [
            f"{np.count_nonzero(wrong):,} rows stand in {how}, the first is {int(wrong.argmax()) + 1:,}"
            for how, wrong in {"none of them": times == 0, "several, or twice": times > 1}.items()
            if wrong.any()
        ],
        f"{path}: each row must stand in one of {', '.join(PARTS)}",
    )
    return splits


def _variables(path: Path, numbers: tuple[str, ...], texts: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Numeric arrays and cell arrays of texts, by name; a cell array is flat."""
    with parsing(path, REMEDY):
        if h5py.is_hdf5(path):
            with hdf5.opened(path, REMEDY) as file:
                # MATLAB's axes are the other way round in HDF5
                found = {name: hdf5.array(file, name).T for name in numbers}
                return found | {name: _cells(file, name) for name in texts}
        return _version_5(path, numbers, texts)


def _version_5(path: Path, numbers: tuple[str, ...], texts: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    listed = {name: (shape, kind) for name, shape, kind in whosmat(path)}
    raise_all([f"no {name!r}" for name in (*numbers, *texts) if name not in listed], f"{path} is not of this format")
    for name in (*numbers, *texts):
        shape, kind = listed[name]
        if kind not in (("cell",) if name in texts else NUMERIC):
            raise InputError(f"{path}: {name} is of MATLAB's class {kind}")
        refuse_hollow(8 * math.prod(shape), path, name)
    found = loadmat(path, variable_names=[*numbers, *texts])
    cells = {name: np.array([str(cell.item()) for cell in found[name].reshape(-1)], np.str_) for name in texts}
    return {name: found[name] for name in numbers} | cells


NUMERIC = ("double", "single", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def _cells(file: h5py.File, name: str) -> NDArray[Any]:
    """A cell array of texts, which version 7.3 keeps as references to arrays of UTF-16 units."""
    cells = hdf5.item(file, name)
    if not isinstance(cells, h5py.Dataset) or h5py.check_ref_dtype(cells.dtype) is not h5py.Reference:
        raise InputError(f"{file.filename}: {name} is no cell array")
    refuse_hollow(math.prod(cells.shape) * cells.dtype.itemsize, Path(file.filename), name)
    return np.array([_text(file[reference]) for reference in cells[...].reshape(-1)], np.str_)


def _text(units: Any) -> str:
    refuse_hollow(math.prod(units.shape) * units.dtype.itemsize, Path(units.file.filename), "a text")
    return np.asarray(units[...]).astype("<u2").tobytes().decode("utf-16-le")
