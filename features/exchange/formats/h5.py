"""HDF5: one group per split (`train/features`, `train/labels`, ...), or `features`, `labels`, `splits` at the top."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from features.datasets.base import SPLITS
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
from features.formats.hdf5 import create_file, get_member, open_file, read_array, text_attribute
from features.formats.sandbox import read_in_sandbox


class H5(Format):
    """A `.h5` file. A file with another suffix, such as `.hdf5`, must be renamed."""

    def read(self, source: Path, keys: Mapping[str, str]) -> FeatureFile:
        """Read the arrays that `FIELDS` names; others are ignored."""
        arrays = read_in_sandbox(read_arrays, source, [KEY, *names_in_file(keys).values()])
        classes, provenance = parse_metadata(str(arrays.pop(KEY)), str(source)) if KEY in arrays else (None, None)

        blocks = []
        for split in splits_with_group([*arrays]):
            prefix = f"{split}/" if split else ""
            group = {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
            where = f"{source}/{split}" if split else str(source)
            blocks.append(block_of(group, keys, where, split))
        return FeatureFile(blocks, classes, provenance)

    def write(self, content: FeatureFile, out: Path) -> None:
        """Write one group per split. The arrays are not compressed, because features hardly compress."""
        with create_file(out) as file:
            file.attrs[KEY] = metadata_json(content)
            for split, arrays in content.arrays_by_split().items():
                # Created explicitly: a group that HDF5 creates as part of a path records the time, so bytes would vary.
                group = file.create_group(split)
                for name, values in arrays.items():
                    group[name] = values.astype(h5py.string_dtype()) if values.dtype.kind == "U" else values


def read_arrays(source: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Read the arrays of the splits' groups, or of the top of the file.

    On corrupt bytes this may crash or hang: call it through `read_in_sandbox`.

    Returns:
        Every array by its path. Arrays whose name is not in `names` are returned empty: their names help in error
        messages. The metadata of an export is under `KEY`.

    Raises:
        InputError: The file is damaged, or an array cannot be read.
    """
    with open_file(source, FIX_HINT) as file:
        arrays = {KEY: np.array(text_attribute(file, KEY))} if KEY in file.attrs else {}

        groups = [f"{split}/" for split in SPLITS if split in file.keys()] or [""]  # noqa: SIM118 (`in file` follows links)
        for prefix in groups:
            for name in get_member(file, prefix.rstrip("/")) if prefix else file:
                arrays[prefix + name] = read_array(file, prefix + name) if name in names else np.empty(0)
        return arrays
