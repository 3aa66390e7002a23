"""HDF5: a group a split (`train/features`, `train/labels`, ...), or `features`, `labels`, `splits` at the top."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from features.datasets.base import SPLITS
from features.exchange.formats.base import KEY, REMEDY, Content, Format, block_of, by_split, note, noted, wanted
from features.formats.hdf5 import array, created, item, opened, text
from features.formats.sandbox import contained


class H5(Format):
    """`.h5`; what others call `.hdf5` is to be renamed."""

    def read(self, source: Path, keys: Mapping[str, str]) -> Content:
        """Read the arrays that `FIELDS` names; others are passed over."""
        found = contained(arrays, source, [KEY, *wanted(keys).values()])
        classes, facts = noted(str(found.pop(KEY)), str(source)) if KEY in found else (None, None)
        blocks = []
        for split in by_split([*found]):
            prefix = f"{split}/" if split else ""
            mine = {name.removeprefix(prefix): values for name, values in found.items() if name.startswith(prefix)}
            blocks.append(block_of(mine, keys, f"{source}{prefix and '/'}{prefix.rstrip('/')}", split))
        return Content(blocks, classes, facts)

    def write(self, content: Content, out: Path) -> None:
        """Write a group a split; arrays are contiguous, for features hardly compress."""
        with created(out) as file:
            file.attrs[KEY] = note(content)
            for split, arrays in content.splits().items():
                group = file.create_group(split)  # by name: one that HDF5 makes on the way would hold the time
                for name, values in arrays.items():
                    group[name] = values.astype(h5py.string_dtype()) if values.dtype.kind == "U" else values


def arrays(source: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Every array of the splits' groups, or of the top, by path, and what an export has noted under `KEY`.

    Arrays that are not called one of `names` are empty here.

    Raises:
        InputError: the file is damaged, or an array is none that is read. `contained` is to call it.
    """
    with opened(source, REMEDY) as file:
        note = {KEY: np.array(text(file, KEY))} if KEY in file.attrs else {}
        groups = [f"{split}/" for split in SPLITS if split in file.keys()] or [""]  # noqa: SIM118 (`in file` follows links)
        members = [prefix + name for prefix in groups for name in (item(file, prefix.rstrip("/")) if prefix else file)]
        return note | {m: array(file, m) if m.rpartition("/")[2] in names else np.empty(0) for m in members}
