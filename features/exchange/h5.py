"""HDF5: a group a split (`train/features`, `train/labels`, ...), or `features`, `labels`, `splits` at the top."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from features.datasets.base import SPLITS
from features.exchange.base import KEY, REMEDY, Content, Format, block_of, note, noted, wanted
from features.files import written_whole
from features.hdf5 import array, item, opened, text


class H5(Format):
    """`.h5`; what others call `.hdf5` is to be renamed."""

    def read(self, source: Path, keys: Mapping[str, str]) -> Content:
        """Read the arrays that `FIELDS` names; others are passed over."""
        with opened(source, REMEDY) as file:
            classes, facts = noted(text(file, KEY), str(source)) if KEY in file.attrs else (None, None)
            splits = [split for split in SPLITS if split in file.keys()]  # noqa: SIM118 (`in file` follows links)
            blocks = [block_of(_arrays(item(file, s), keys), keys, f"{source}/{s}", s) for s in splits]
            return Content(blocks or [block_of(_arrays(file, keys), keys, str(source), None)], classes, facts)

    def write(self, content: Content, out: Path) -> None:
        """Write a group a split; arrays are contiguous, for features hardly compress."""
        with written_whole(out) as part, h5py.File(part, "w", libver="v110") as file:
            file.attrs[KEY] = note(content)
            for split, arrays in content.splits().items():
                for name, values in arrays.items():
                    texts = values.dtype.kind == "U"
                    file[f"{split}/{name}"] = values.astype(h5py.string_dtype()) if texts else values


def _arrays(group: h5py.Group, keys: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    there = list(group)
    called = wanted(keys).values()
    return {name: array(group, name) if name in called else np.empty(0) for name in there}
