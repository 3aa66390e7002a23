"""NumPy's `.npz`: arrays called `train/features`, `train/labels`, ..., or `features`, `labels`, `splits`."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from features.errors import InputError
from features.exchange.formats.base import (
    KEY,
    REMEDY,
    FeatureFile,
    Format,
    block_of,
    by_split,
    metadata_json,
    names_in_file,
    parse_metadata,
)
from features.formats.files import atomic_file
from features.formats.untrusted import check_claimed_size, wrap_parser_errors

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class Npz(Format):
    """`numpy.savez` or `numpy.savez_compressed`, without pickled objects."""

    def read(self, source: Path, keys: Mapping[str, str]) -> FeatureFile:
        """Read the arrays that `FIELDS` names; others are passed over."""
        with wrap_parser_errors(source, REMEDY), zipfile.ZipFile(source) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            called = names_in_file(keys).values()
            blocks = []
            for split in by_split(list(members)):
                prefix = f"{split}/" if split else ""
                inside = [name.removeprefix(prefix) for name in members if name.startswith(prefix)]
                arrays = {
                    name: _read(archive, members[prefix + name], source) if name in called else np.empty(0)
                    for name in inside
                }
                blocks.append(block_of(arrays, keys, f"{source}: {prefix}", split))
            said = str(_read(archive, members[KEY], source)) if KEY in members else None
            return FeatureFile(blocks, *(parse_metadata(said, str(source)) if said else ()))

    def write(self, content: FeatureFile, out: Path) -> None:
        """Write an uncompressed archive, for features hardly compress."""
        arrays = {
            f"{split}/{name}": values for split, part in content.splits().items() for name, values in part.items()
        }
        with atomic_file(out) as part, part.open("wb") as file:
            np.savez(file, allow_pickle=False, **{KEY: np.array(metadata_json(content))}, **arrays)


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> NDArray[Any]:
    """One array; numpy's own reader would allocate what the header claims before it looks for the bytes."""
    check_claimed_size(member.file_size, path, member.filename)
    with archive.open(member) as file:
        version = npy.read_magic(file)
        if version not in HEADERS:
            raise InputError(f"{path}: {member.filename} has a header of version {version}")
        shape, fortran, dtype = HEADERS[version](file)
        size = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or size > member.file_size:
            raise InputError(f"{path}: {member.filename} claims {dtype} {shape}, which it does not hold")
        values = np.frombuffer(file.read(size), dtype)
    return values.reshape(shape, order="F" if fortran else "C")
