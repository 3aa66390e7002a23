"""Read and write HDF5 files: written whole, and read without following links or trusting sizes."""

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
from features.formats.seal import BLANK, check_seal, seal
from features.formats.untrusted import check_claimed_size, wrap_parser_errors

USER_BLOCK = 512  # bytes in front of the file's own, which HDF5 ignores; the smallest size that it allows


@contextmanager
def open_file(path: Path, fix_hint: str) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; every exception in the block becomes an `InputError`."""
    with wrap_parser_errors(path, fix_hint), h5py.File(path, "r") as file:
        yield file


@contextmanager
def open_sealed(path: Path, fix_hint: str) -> Iterator[h5py.File]:
    """Open a file of `create_file` for reading, after a check that its bytes are those that were written."""
    check_seal(path, fix_hint)
    with open_file(path, fix_hint) as file:
        yield file


@contextmanager
def create_file(path: Path) -> Iterator[h5py.File]:
    """Create an HDF5 file with its digest in the user block; it appears at `path` complete or not at all."""
    # In memory first: on a full disk, libhdf5 fails repeatedly while it closes the file and then crashes the process.
    memory = io.BytesIO()
    with h5py.File(memory, "w", libver="v110", userblock_size=USER_BLOCK) as file:
        yield file
    content = memory.getbuffer()
    content[: len(BLANK)] = BLANK.encode()
    seal(content, 0)
    with atomic_file(path) as part:
        part.write_bytes(content)


def get_member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """Return a member of a group, by a path of hard links.

    Raises:
        InputError: There is no such member, or a soft or external link is on the path: a link can name any file.
    """
    path = Path(group.file.filename)
    for part in name.split("/"):
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) and part in group.keys() else None  # noqa: SIM118 (`in group` follows links)
        if link is None:
            raise InputError(f"{path}: {group.name} has no member {part!r}; {nearest(part, list(group))}")
        if not isinstance(link, h5py.HardLink):
            raise InputError(f"{path}: {part!r} in {group.name} is a soft or external link; links are not followed")
        group = group[part]
    return group


def read_array(group: h5py.Group, name: str) -> NDArray[Any]:
    """Return all values of a dataset of numbers or texts.

    Raises:
        InputError: There is no such dataset, its values are in other files, it claims more bytes than the file can
            hold, or it holds neither numbers nor texts.
    """
    dataset, path = get_member(group, name), Path(group.file.filename)
    where = f"{group.name.rstrip('/')}/{name}"
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise InputError(f"{path}: {where} is not an array")

    text_dtype = h5py.check_string_dtype(dataset.dtype)
    if text_dtype is None and dataset.dtype.kind not in "biufV":
        raise InputError(f"{path}: {where} has dtype {dataset.dtype}; expected numbers or texts")
    _check_storage(dataset, path, where)

    if text_dtype:
        return np.asarray(dataset.asstr()[...], dtype=np.str_)
    return np.asarray(dataset[...])


def read_references(group: h5py.Group, name: str) -> list[h5py.Dataset] | None:
    """Return the arrays of UTF-16 code units that an array of references points to, in the file's order.

    Returns:
        One dataset per reference; None if the array does not hold references.

    Raises:
        InputError: A reference points to something else, or to more bytes than the file can hold.
    """
    dataset, path = get_member(group, name), Path(group.file.filename)
    if not isinstance(dataset, h5py.Dataset) or h5py.check_ref_dtype(dataset.dtype) is not h5py.Reference:
        return None
    _check_storage(dataset, path, name)

    targets = [group.file[reference] for reference in dataset[...].ravel()]
    for target in targets:
        if not isinstance(target, h5py.Dataset) or target.dtype.kind not in "iu":
            raise InputError(f"{path}: {name} has a reference to something other than a text")
        _check_storage(target, path, f"a text of {name}")
    return targets


def _check_storage(dataset: h5py.Dataset, path: Path, where: str) -> None:
    """Check that the values of a dataset are in the file itself, and that the file is large enough for them."""
    if dataset.external or dataset.is_virtual:
        raise InputError(f"{path}: the values of {where} are in other files, which are not read")
    check_claimed_size(math.prod(dataset.shape) * dataset.dtype.itemsize, path, where)
    # libhdf5 allocates a whole chunk even if the array has fewer values.
    if dataset.chunks:
        check_claimed_size(math.prod(dataset.chunks) * dataset.dtype.itemsize, path, f"a chunk of {where}")


def text_attribute(owner: h5py.Group, name: str) -> str:
    """Return the value of an attribute that is a text."""
    value = owner.attrs[name]
    if not isinstance(value, str):
        raise InputError(f"{owner.file.filename}: attribute {name!r} of {owner.name} is not a text")
    return value


def text_list_attribute(owner: h5py.Group, name: str) -> tuple[str, ...]:
    """Return the value of an attribute that is a JSON list of texts."""
    values = json.loads(text_attribute(owner, name))
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InputError(f"{owner.file.filename}: attribute {name!r} of {owner.name} is not a list of texts")
    return tuple(values)
