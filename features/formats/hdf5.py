"""HDF5 files, written whole, and read with suspicion: no links out of the file, no arrays that it cannot hold."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from features.errors import InputError, nearest
from features.formats.files import atomic_file
from features.formats.untrusted import check_claimed_size, wrap_parser_errors


@contextmanager
def open_file(path: Path, remedy: str) -> Iterator[h5py.File]:
    """An HDF5 file, open for reading; whatever goes wrong inside is an `InputError`."""
    with wrap_parser_errors(path, remedy), h5py.File(path, "r") as file:
        yield file


@contextmanager
def create_file(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file, which appears whole or not at all.

    It is made in memory: over a full disk libhdf5 fails again and again as it closes, and then crashes the process.
    """
    memory = io.BytesIO()
    with h5py.File(memory, "w", libver="v110") as file:
        yield file
    with atomic_file(path) as part:
        part.write_bytes(memory.getbuffer())


def get_member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """A member of a group, reached over hard links alone.

    Raises:
        InputError: there is none, or a soft or external link stands on the way: a link can name any file there is.
    """
    path = Path(group.file.filename)
    for part in name.split("/"):
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) and part in group.keys() else None  # noqa: SIM118 (`in group` follows links)
        if link is None:
            raise InputError(f"{path}: {group.name} holds no {part!r}; {nearest(part, list(group))}")
        if not isinstance(link, h5py.HardLink):
            raise InputError(f"{path}: {part!r} in {group.name} is a link to elsewhere, which is not followed")
        group = group[part]
    return group


def read_array(group: h5py.Group, name: str) -> NDArray[Any]:
    """A dataset of numbers or texts, whole.

    Raises:
        InputError: there is none; its values lie in other files; it claims more than the file can hold; or it holds
            neither numbers nor texts.
    """
    dataset, path = get_member(group, name), Path(group.file.filename)
    what = f"{group.name.rstrip('/')}/{name}"
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise InputError(f"{path}: {what} is no array")
    if dataset.external or dataset.is_virtual:
        raise InputError(f"{path}: the values of {what} lie in other files, which are not read")
    written = h5py.check_string_dtype(dataset.dtype)
    if written is None and dataset.dtype.kind not in "biufV":
        raise InputError(f"{path}: {what} holds {dataset.dtype}, neither numbers nor texts")
    check_claimed_size(math.prod(dataset.shape) * dataset.dtype.itemsize, path, what)
    if dataset.chunks:
        check_claimed_size(math.prod(dataset.chunks) * dataset.dtype.itemsize, path, f"a chunk of {what}")
    return np.asarray(dataset.asstr()[...], dtype=np.str_) if written else np.asarray(dataset[...])


def read_references(group: h5py.Group, name: str) -> list[h5py.Dataset] | None:
    """The arrays that an array of references leads to, in the file's order; None for an array of something else."""
    dataset, path = get_member(group, name), Path(group.file.filename)
    if not isinstance(dataset, h5py.Dataset) or h5py.check_ref_dtype(dataset.dtype) is not h5py.Reference:
        return None
    check_claimed_size(math.prod(dataset.shape) * dataset.dtype.itemsize, path, name)
    found = [group.file[reference] for reference in dataset[...].ravel()]
    for one in found:
        if not isinstance(one, h5py.Dataset) or one.external or one.is_virtual or one.dtype.kind not in "iu":
            raise InputError(f"{path}: {name} refers to something else than texts")
        check_claimed_size(math.prod(one.shape) * one.dtype.itemsize, path, f"a text of {name}")
    return found


def text_attribute(owner: h5py.Group, name: str) -> str:
    """The value of an attribute that is a text."""
    value = owner.attrs[name]
    if not isinstance(value, str):
        raise InputError(f"{owner.file.filename}: the attribute {name!r} of {owner.name} is no text")
    return value


def text_list_attribute(owner: h5py.Group, name: str) -> tuple[str, ...]:
    """The value of an attribute that is a JSON list of texts."""
    values = json.loads(text_attribute(owner, name))
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InputError(f"{owner.file.filename}: the attribute {name!r} of {owner.name} is no list of texts")
    return tuple(values)
