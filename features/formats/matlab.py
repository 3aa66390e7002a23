"""Vectors and lists of texts from MATLAB files, of version 5 (scipy reads them) and 7.3 (HDF5)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray

from features.errors import InputError, nearest
from features.formats import hdf5
from features.formats.sandbox import read_in_sandbox
from features.formats.untrusted import check_claimed_size, wrap_parser_errors

KINDS = (
    *("cell", "double", "single", "logical"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)


KNOWN = ""  # no variable is called so: under it stand the names of all


class MatFile:
    """The wanted variables of a MATLAB file; the others, which may be large, are not read."""

    def __init__(self, path: Path, wanted: Iterable[str]) -> None:
        """Read them.

        Raises:
            InputError: no such file, not MATLAB's, one without a wanted variable, or one that claims more values than
                the file can hold.
        """
        self.path = path
        wanted = tuple(wanted)
        self._values = read_in_sandbox(variables, path, wanted)
        known = self._values.pop(KNOWN).tolist()
        for name in wanted:
            if name not in self._values:
                raise InputError(f"{path} has no variable {name!r}; {nearest(name, known)}")

    def array(self, name: str) -> NDArray[Any]:
        """An array of numbers, its axes in MATLAB's order."""
        values = self._values[name]
        if values.dtype.kind not in "biuf":
            raise InputError(f"{self.path}: {name} is no array of numbers")
        return values

    def numbers(self, name: str) -> NDArray[np.int64]:
        """(N,) whole numbers of a vector."""
        values = self.array(name).ravel()
        with np.errstate(invalid="ignore"):
            whole = values.astype(np.int64)
        if not np.array_equal(whole, values):
            raise InputError(f"{self.path}: {name} holds numbers that are not whole, or too large")
        return whole

    def texts(self, name: str) -> list[str]:
        """The texts of a cell array, in MATLAB's order."""
        values = self._values[name]
        if values.dtype.kind != "U":
            raise InputError(f"{self.path}: {name} is no cell array of texts")
        return [str(value) for value in values]


def variables(path: Path, wanted: Collection[str]) -> dict[str, NDArray[Any]]:
    """Those of the wanted variables that there are, cells as vectors of texts, and the names of all under `KNOWN`.

    Raises:
        InputError: as `MatFile` says. On bad bytes it may crash or never end: `read_in_sandbox` is to call it.
    """
    with wrap_parser_errors(path, "get it anew"):
        known, values = _from_7_3(path, wanted) if h5py.is_hdf5(path) else _from_5(path, wanted)
        return {KNOWN: np.array(known, np.str_), **values}


def _from_5(path: Path, wanted: Collection[str]) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """The names of all variables, and the values of the wanted ones."""
    listed = {name: (shape, kind) for name, shape, kind in scipy.io.whosmat(path)}
    for name in set(wanted) & set(listed):
        shape, kind = listed[name]
        if kind not in KINDS:
            raise InputError(f"{path}: {name} is of MATLAB's class {kind}; {', '.join(KINDS)} are read")
        check_claimed_size(8 * math.prod(shape), path, name)
    values = scipy.io.loadmat(path, variable_names=[*wanted], chars_as_strings=True)
    return list(listed), {name: _from_cells(values[name]) for name in wanted if name in values}


def _from_cells(value: NDArray[Any]) -> NDArray[Any]:
    if value.dtype != object:
        return value
    texts = [str(cell.item()) if getattr(cell, "size", 1) == 1 else "" for cell in value.ravel(order="F")]
    return np.array(texts, np.str_)


def _from_7_3(path: Path, wanted: Collection[str]) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """The same from HDF5, which holds arrays transposed, a cell as a reference, and text as UTF-16 code units."""
    with hdf5.open_file(path, "get it anew") as file:
        known = [name for name in file if not name.startswith("#")]
        cells = {name: hdf5.read_references(file, name) for name in wanted if name in known}
        return known, {
            name: hdf5.read_array(file, name).T
            if found is None
            else np.array([np.asarray(one[()]).astype("<u2").tobytes().decode("utf-16-le") for one in found], np.str_)
            for name, found in cells.items()
        }
