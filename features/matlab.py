"""Vectors and lists of texts from MATLAB files, of version 5 (scipy reads them) and 7.3 (HDF5)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray
from scipy.io.matlab import MatReadError

from features.errors import InputError, nearest


class MatFile:
    """The wanted variables of a MATLAB file; the others, which may be large, are not read."""

    def __init__(self, path: Path, wanted: Iterable[str]) -> None:
        """Read them.

        Raises:
            InputError: no such file, not MATLAB's, or one without a wanted variable.
        """
        self.path = path
        wanted = tuple(wanted)
        try:
            known, self._values = _read(path, wanted)
        except (OSError, ValueError, TypeError, NotImplementedError, MatReadError, zlib.error) as error:
            raise InputError(f"{path} cannot be read as a MATLAB file: {error}; get it anew") from error
        for name in wanted:
            if name not in self._values:
                raise InputError(f"{path} has no variable {name!r}; {nearest(name, known)}")

    def numbers(self, name: str) -> NDArray[np.int64]:
        """(N,) whole numbers of a vector."""
        return np.asarray(self._values[name]).ravel().astype(np.int64)

    def texts(self, name: str) -> list[str]:
        """The texts of a cell array, in MATLAB's order."""
        return list(self._values[name])


def _read(path: Path, wanted: tuple[str, ...]) -> tuple[list[str], dict[str, Any]]:
    """The names of all variables, and the values of the wanted ones; cells as lists of texts."""
    if h5py.is_hdf5(path):
        with h5py.File(path) as file:
            values = {name: _from_hdf5(file, file[name]) for name in wanted if name in file}
            return [name for name in file if not name.startswith("#")], values
    known = [name for name, _, _ in scipy.io.whosmat(path)]
    values = scipy.io.loadmat(path, variable_names=[*wanted], chars_as_strings=True)
    return known, {name: _from_cells(values[name]) for name in wanted if name in values}


def _from_cells(value: NDArray[Any]) -> Any:
    if value.dtype != object:
        return value
    return [str(cell.item()) if getattr(cell, "size", 1) == 1 else "" for cell in value.ravel(order="F")]


def _from_hdf5(file: Any, value: Any) -> Any:
    """HDF5 holds MATLAB's arrays transposed, a cell as a reference, and text as UTF-16 code units."""
    found = value[()]
    if value.dtype != object:
        return found
    return [file[cell][()].astype("<u2").tobytes().decode("utf-16-le") for cell in found.ravel()]
