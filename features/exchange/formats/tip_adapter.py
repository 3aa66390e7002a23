"""The cache folder of Tip-Adapter's code (`utils.py`), which GDA, APE and other code write too.

| file | content |
|---|---|
| `keys_<K>shots.pt` | (D, N), a column per training image: the mean of its ten augmented views, unit length |
| `values_<K>shots.pt` | (N, C), one-hot labels |
| `<split>_f.pt`, `<split>_l.pt` | (M, D) unit features and (M,) labels of the centre crops, for val and test |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.datasets.base import Split
from features.errors import InputError, raise_all
from features.exchange.formats.base import FeatureFile, Format, block_of
from features.exchange.formats.pt import load_tensors

SCORED: tuple[Split, ...] = ("val", "test")
TEST = "test_f.pt"  # the file by which such a folder is known


class TipAdapter(Format):
    """A folder of `torch.save` files. Of several training draws, the one with the most shots is read."""

    def files(self, source: Path) -> list[Path]:
        """Return the pairs of files of each split."""
        return [file for pair in _pairs(source).values() for file in pair]

    def read(self, source: Path, keys: Mapping[str, str]) -> FeatureFile:  # noqa: ARG002 (the names are fixed)
        """Read the three splits; a folder without keys has no training images."""
        pairs = _pairs(source)
        absent = [file.name for pair in pairs.values() for file in pair if not file.is_file()]
        raise_all([f"no {name}" for name in absent], f"{source} is not a complete cache folder of Tip-Adapter")

        blocks = []
        for split, (features, labels) in pairs.items():
            rows, targets = _single(features), _single(labels)
            if split == "train":
                rows, targets = rows.T, _classes_of(targets, labels)
            blocks.append(block_of({"features": rows, "labels": targets}, {}, f"{source}: {split}", split))
        return FeatureFile(blocks)


def _pairs(source: Path) -> dict[Split, tuple[Path, Path]]:
    """Return the file of features and the file of labels of each split; val and train may be absent."""
    shots = [int(match[1]) for file in source.iterdir() if (match := re.fullmatch(r"keys_(\d+)shots\.pt", file.name))]
    pairs: dict[Split, tuple[Path, Path]] = {}
    if shots:
        pairs["train"] = (source / f"keys_{max(shots)}shots.pt", source / f"values_{max(shots)}shots.pt")
    for split in SCORED:
        if split == "test" or (source / f"{split}_f.pt").is_file():
            pairs[split] = (source / f"{split}_f.pt", source / f"{split}_l.pt")
    return pairs


def _single(path: Path) -> NDArray[Any]:
    """Return the tensor of a file that holds one, with at least one axis."""
    tensors = load_tensors(path)
    if {*tensors} != {"features"}:
        raise InputError(f"{path} holds {', '.join(tensors)}; expected a single tensor")
    return np.atleast_1d(tensors["features"])


def _classes_of(one_hot: NDArray[Any], path: Path) -> NDArray[np.int64]:
    """Return the class (N,) of each one-hot row (N, C)."""
    nonzero = one_hot != 0
    if one_hot.ndim != 2 or not (nonzero.sum(1) == 1).all() or not (one_hot[nonzero] == 1).all():
        raise InputError(
            f"{path} of shape {one_hot.shape} is not one-hot: each row must have one 1, and zeros elsewhere"
        )
    classes: NDArray[np.int64] = one_hot.argmax(1).astype(np.int64)
    return classes
