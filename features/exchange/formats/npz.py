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
    FIX_HINT,
    KEY,
    FeatureFile,
    Format,
    block_of,
    metadata_json,
    names_in_file,
    parse_metadata,
    splits_with_group,
)
from features.formats.files import atomic_file
from features.formats.untrusted import check_claimed_size, wrap_parser_errors

HEADER_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class Npz(Format):
    """An archive of `numpy.savez` or `numpy.savez_compressed`, without pickled objects."""

    def read(self, source: Path, keys: Mapping[str, str]) -> FeatureFile:
        """Read the arrays that `FIELDS` names; others are ignored."""
        file_names = set(names_in_file(keys).values())
        with wrap_parser_errors(source, FIX_HINT), zipfile.ZipFile(source) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}

            blocks = []
            for split in splits_with_group(list(members)):
                prefix = f"{split}/" if split else ""
                arrays = {}
                for path, member in members.items():
                    if path.startswith(prefix):
                        name = path.removeprefix(prefix)
                        # Other arrays stay empty: only their names are needed, for error messages.
                        arrays[name] = _read_member(archive, member, source) if name in file_names else np.empty(0)
                blocks.append(block_of(arrays, keys, f"{source}: {prefix}", split))

            if KEY not in members:
                return FeatureFile(blocks)
            metadata = str(_read_member(archive, members[KEY], source))
            return FeatureFile(blocks, *parse_metadata(metadata, str(source)))

    def write(self, content: FeatureFile, out: Path) -> None:
        """Write an uncompressed archive, because features hardly compress."""
        arrays = {
            f"{split}/{name}": values
            for split, members in content.arrays_by_split().items()
            for name, values in members.items()
        }
        with atomic_file(out) as part, part.open("wb") as file:
            np.savez(file, allow_pickle=False, **{KEY: np.array(metadata_json(content))}, **arrays)


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> NDArray[Any]:
    """Read one array.

    `np.load` is not used: it allocates the bytes that the header claims before it looks for them.
    """
    check_claimed_size(member.file_size, path, member.filename)
    with archive.open(member) as file:
        version = npy.read_magic(file)
        if version not in HEADER_READERS:
            raise InputError(f"{path}: {member.filename} has the unknown header version {version}")

        shape, fortran, dtype = HEADER_READERS[version](file)
        size = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or size > member.file_size:
            raise InputError(f"{path}: {member.filename} claims {dtype} {shape}, which it does not hold")
        values = np.frombuffer(file.read(size), dtype)
    return values.reshape(shape, order="F" if fortran else "C")
