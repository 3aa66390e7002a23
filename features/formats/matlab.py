"""Read vectors and lists of texts from MATLAB files, of version 5 (with scipy) and 7.3 (HDF5)."""

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

# MATLAB's classes that are read; others, such as `struct` and `object`, can hold anything.
CLASSES = (
    "cell",
    "double",
    "single",
    "logical",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)
ALL_NAMES = ""  # the key under which `read_variables` returns the names of all variables; none has an empty name
FIX_HINT = "get a new copy"


class MatFile:
    """Some variables of a MATLAB file. The others, which may be large, are not read."""

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        """Read the variables `names`.

        Raises:
            InputError: The file does not exist, is not a MATLAB file, lacks one of the variables, or claims more
                values than it can hold.
        """
        self.path = path
        names = tuple(names)
        self._values = read_in_sandbox(read_variables, path, names)

        known = self._values.pop(ALL_NAMES).tolist()
        for name in names:
            if name not in self._values:
                raise InputError(f"{path} has no variable {name!r}; {nearest(name, known)}")

    def array(self, name: str) -> NDArray[Any]:
        """Return an array of numbers, with the axes in MATLAB's order."""
        values = self._values[name]
        if values.dtype.kind not in "biuf":
            raise InputError(f"{self.path}: {name} is not an array of numbers")
        return values

    def numbers(self, name: str) -> NDArray[np.int64]:
        """Return the (N,) whole numbers of a vector."""
        values = self.array(name).ravel()
        with np.errstate(invalid="ignore"):
            whole = values.astype(np.int64)
        if not np.array_equal(whole, values):
            raise InputError(f"{self.path}: {name} has numbers that are not whole or do not fit 64 bits")
        return whole

    def texts(self, name: str) -> list[str]:
        """Return the texts of a cell array, in MATLAB's order."""
        values = self._values[name]
        if values.dtype.kind != "U":
            raise InputError(f"{self.path}: {name} is not a cell array of texts")
        return [str(value) for value in values]


def read_variables(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Read the variables that exist among `names`. On corrupt bytes this may crash or hang: call `read_in_sandbox`.

    Returns:
        The values by name, cell arrays as vectors of texts; under `ALL_NAMES`, the names of all variables.

    Raises:
        InputError: See `MatFile`.
    """
    with wrap_parser_errors(path, FIX_HINT):
        known, values = _read_7_3(path, names) if h5py.is_hdf5(path) else _read_5(path, names)
        return {ALL_NAMES: np.array(known, np.str_), **values}


def _read_5(path: Path, names: Collection[str]) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """Return the names of all variables, and the values of those in `names`."""
    headers = {name: (shape, matlab_class) for name, shape, matlab_class in scipy.io.whosmat(path)}
    for name in set(names) & set(headers):
        shape, matlab_class = headers[name]
        if matlab_class not in CLASSES:
            raise InputError(f"{path}: {name} has the MATLAB class {matlab_class}; expected {', '.join(CLASSES)}")
        check_claimed_size(8 * math.prod(shape), path, name)

    values = scipy.io.loadmat(path, variable_names=[*names], chars_as_strings=True)
    return list(headers), {name: _cells_to_texts(values[name]) for name in names if name in values}


def _cells_to_texts(value: NDArray[Any]) -> NDArray[Any]:
    if value.dtype != object:
        return value
    texts = [str(cell.item()) if getattr(cell, "size", 1) == 1 else "" for cell in value.ravel(order="F")]
    return np.array(texts, np.str_)


def _read_7_3(path: Path, names: Collection[str]) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """Return the same as `_read_5`, from HDF5.

    There, arrays are transposed, a cell is a reference, and a text is an array of UTF-16 code units.
    """
    with hdf5.open_file(path, FIX_HINT) as file:
        known = [name for name in file if not name.startswith("#")]
        values = {}
        for name in names:
            if name not in known:
                continue
            cells = hdf5.read_references(file, name)
            if cells is None:
                values[name] = hdf5.read_array(file, name).T
            else:
                texts = [np.asarray(cell[()]).astype("<u2").tobytes().decode("utf-16-le") for cell in cells]
                values[name] = np.array(texts, np.str_)
        return known, values
