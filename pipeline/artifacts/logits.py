"""A run's logits on disk, with the labels: all that it takes to judge the run anew, or to calibrate it.

HDF5: `labels/<eval_split>` (N,) and `seed=<s>/<eval_split>` (N, M), which is absent where the run cannot score a class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from features.formats import hdf5


@dataclass(frozen=True)
class RunLogits:
    """What a run said of a task's judged images.

    Attributes:
        labels: eval_split -> (N,) int64, places among the eval_split's M candidates.
        seeds: seed -> eval_split -> (N, M) float16.
    """

    labels: Mapping[str, NDArray[np.int64]]
    seeds: Mapping[int, Mapping[str, NDArray[np.float16]]]


def write_logits(path: Path, found: RunLogits) -> None:
    """Write the file, whole or not at all."""
    with hdf5.created(path) as file:
        held = file.create_group("labels")  # by name: a group that HDF5 makes on the way would hold the time
        for name, labels in found.labels.items():
            held[name] = labels
        for seed, judged in found.seeds.items():
            group = file.create_group(f"seed={seed}")
            for name, logits in judged.items():
                group[name] = logits


def read_logits(path: Path) -> RunLogits:
    """Read what `write_logits` wrote.

    Raises:
        InputError: there is no such file, it is none of these, or logits and labels of it do not fit together.
    """
    with hdf5.opened(path, "`dvc repro` makes it, `dvc pull` brings it") as file:
        labels = {name: hdf5.array(file, f"labels/{name}") for name in hdf5.item(file, "labels")}
        seeds = {
            int(group.removeprefix("seed=")): {
                name: hdf5.array(file, f"{group}/{name}") for name in hdf5.item(file, group)
            }
            for group in file
            if group.startswith("seed=")
        }
        for seed, judged in seeds.items():
            for name, logits in judged.items():
                if name not in labels or logits.ndim != 2 or labels[name].shape != logits.shape[:1]:
                    raise InputError(f"{path}: seed={seed}/{name} {logits.shape} has no labels that fit it")
        return RunLogits(labels, seeds)
