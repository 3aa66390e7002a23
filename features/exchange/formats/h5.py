"""HDF5: a group a split (`train/features`, `train/labels`, ...), or `features`, `labels`, `splits` at the top."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from features.datasets.base import SPLITS
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
from features.formats.hdf5 import create_file, get_member, open_file, read_array, text_attribute
from features.formats.sandbox import read_in_sandbox


class H5(Format):
    """`.h5`; what others call `.hdf5` is to be renamed."""

    def read(self, source: Path, keys: Mapping[str, str]) -> FeatureFile:
        """Read the arrays that `FIELDS` names; others are passed over."""
        found = read_in_sandbox(arrays, source, [KEY, *names_in_file(keys).values()])
        classes, facts = parse_metadata(str(found.pop(KEY)), str(source)) if KEY in found else (None, None)
        blocks = []
        for split in by_split([*found]):
            prefix = f"{split}/" if split else ""
            mine = {name.removeprefix(prefix): values for name, values in found.items() if name.startswith(prefix)}
            blocks.append(block_of(mine, keys, f"{source}{prefix and '/'}{prefix.rstrip('/')}", split))
        return FeatureFile(blocks, classes, facts)

    def write(self, content: FeatureFile, out: Path) -> None:
        """Write a group a split; arrays are contiguous, for features hardly compress."""
        with create_file(out) as file:
            file.attrs[KEY] = metadata_json(content)
            for split, arrays in content.splits().items():
                group = file.create_group(split)  # by name: one that HDF5 makes on the way would hold the time
                for name, values in arrays.items():
                    group[name] = values.astype(h5py.string_dtype()) if values.dtype.kind == "U" else values


def arrays(source: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Every array of the splits' groups, or of the top, by path, and what an export has noted under `KEY`.

    Arrays that are not called one of `names` are empty here.

    Raises:
        InputError: the file is damaged, or an array is none that is read. `read_in_sandbox` is to call it.
    """
    with open_file(source, REMEDY) as file:
        note = {KEY: np.array(text_attribute(file, KEY))} if KEY in file.attrs else {}
        groups = [f"{split}/" for split in SPLITS if split in file.keys()] or [""]  # noqa: SIM118 (`in file` follows links)
        members = [
            prefix + name for prefix in groups for name in (get_member(file, prefix.rstrip("/")) if prefix else file)
        ]
        return note | {m: read_array(file, m) if m.rpartition("/")[2] in names else np.empty(0) for m in members}
