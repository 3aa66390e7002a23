"""Logits of a run with the labels of the images, enough to evaluate the run again or to calibrate it.

The HDF5 file holds `labels/<eval_split>` (N,) and `seed=<s>/<eval_split>` (N, M). The latter is absent if the run
cannot score every candidate class of the evaluation split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from features.formats import hdf5
from pipeline.artifacts.paths import FIX_HINT


@dataclass(frozen=True)
class RunLogits:
    """The logits of a run on the evaluated images of a task.

    Attributes:
        labels: evaluation split -> (N,) int64 positions among the M candidates of the evaluation split.
        seeds: seed -> evaluation split -> (N, M) float16 logits.
    """

    labels: Mapping[str, NDArray[np.int64]]
    seeds: Mapping[int, Mapping[str, NDArray[np.float16]]]


def write_logits(path: Path, run_logits: RunLogits) -> None:
    """Write the logits of a run, either the whole file or nothing."""
    with hdf5.create_file(path) as file:
        # Create each group explicitly: a group that HDF5 creates implicitly stores the time, so bytes would differ.
        group = file.create_group("labels")
        for name, labels in run_logits.labels.items():
            group[name] = labels

        for seed, by_split in run_logits.seeds.items():
            group = file.create_group(f"seed={seed}")
            for name, logits in by_split.items():
                group[name] = logits


def read_logits(path: Path) -> RunLogits:
    """Read what `write_logits` wrote.

    Raises:
        InputError: the file does not exist, is not a logits file, or has logits and labels of different lengths.
    """
    with hdf5.open_sealed(path, FIX_HINT) as file:
        labels = {name: hdf5.read_array(file, f"labels/{name}") for name in hdf5.get_member(file, "labels")}

        seeds = {}
        for key in file:
            if not key.startswith("seed="):
                continue

            by_split = {name: hdf5.read_array(file, f"{key}/{name}") for name in hdf5.get_member(file, key)}
            for name, logits in by_split.items():
                if name not in labels or logits.ndim != 2 or labels[name].shape != logits.shape[:1]:
                    raise InputError(
                        f"{path}: {key}/{name} {logits.shape} has no labels of the same length; {FIX_HINT}"
                    )
            seeds[int(key.removeprefix("seed="))] = by_split

        return RunLogits(labels, seeds)
