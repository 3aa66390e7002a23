"""Logits of a run with the labels of the images, enough to evaluate the run again, to balance it or to calibrate it.

The HDF5 file holds `labels/<eval_split>` (N,) and `seed=<s>/<eval_split>` (N, M). The latter is absent if the run
cannot score every candidate class of the evaluation split. Where seen and unseen classes are compared, there are also
`seen/<eval_split>` (M,) and, computed from the logits before they were rounded to float16,
`margin/seed=<s>/<eval_split>` and `correct/seed=<s>/<eval_split>` (N,). Logits are float16, or float32 if they are too
large for it, as those of `gda` can be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from features.formats import hdf5
from pipeline.artifacts.paths import FIX_HINT
from pipeline.metrics.balance import Margins

if TYPE_CHECKING:
    from torch import Tensor

# In a file of `validate`: the evaluation split of the run itself, beside one for each fold of the seen classes.
TASK = "task"

Stored = NDArray[np.float16] | NDArray[np.float32]


@dataclass(frozen=True)
class RunLogits:
    """The logits of a run on the evaluated images of a task.

    Attributes:
        labels: evaluation split -> (N,) int64 positions among the M candidates of the evaluation split.
        seeds: seed -> evaluation split -> (N, M) logits, as `stored` returns them.
        seen: evaluation split -> (M,) bool, which candidates are seen classes; only splits that compare the two kinds.
        margins: seed -> evaluation split of `seen` -> the margins of its images.
        problems: evaluation split -> why the run could not be fitted for it.
        fitted_to_images: whether images influenced the run (`Method.fitted_to_images`).
    """

    labels: Mapping[str, NDArray[np.int64]]
    seeds: Mapping[int, Mapping[str, Stored]]
    seen: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    margins: Mapping[int, Mapping[str, Margins]] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    fitted_to_images: bool = True


def stored(logits: Tensor) -> Stored:
    """Return logits (N, M) as they are stored: float16, or float32 if float16 would make one infinite."""
    values = logits.numpy().astype(np.float32, copy=False)
    fits = len(values) == 0 or np.abs(values).max() <= np.finfo(np.float16).max
    return values.astype(np.float16) if fits else values


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

        if run_logits.problems:
            file.attrs["problems"] = json.dumps(dict(run_logits.problems), ensure_ascii=False, sort_keys=True)
        file.attrs["fitted_to_images"] = run_logits.fitted_to_images
        if not run_logits.seen:
            return

        group = file.create_group("seen")
        for name, seen in run_logits.seen.items():
            group[name] = seen
        for key in ("margin", "correct"):
            group = file.create_group(key)
            for seed, margins in run_logits.margins.items():
                of_seed = group.create_group(f"seed={seed}")
                for name, values in margins.items():
                    of_seed[name] = getattr(values, key)


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

        seen = {name: hdf5.read_array(file, f"seen/{name}") for name in file.get("seen", ())}
        margins = {
            seed: {name: _read_margins(file, seed, name, labels[name], seen[name]) for name in seen if name in by_split}
            for seed, by_split in seeds.items()
        }
        problems = json.loads(hdf5.text_attribute(file, "problems")) if "problems" in file.attrs else {}
        return RunLogits(labels, seeds, seen, margins, problems, bool(file.attrs.get("fitted_to_images", True)))


def _read_margins(file: Any, seed: int, name: str, labels: NDArray[np.int64], seen: NDArray[np.bool_]) -> Margins:
    """Return the margins of one seed and evaluation split."""
    margin, correct = (hdf5.read_array(file, f"{key}/seed={seed}/{name}") for key in ("margin", "correct"))
    if margin.shape != labels.shape or correct.shape != labels.shape or np.isnan(margin).any():
        raise InputError(
            f"{file.filename}: margin/seed={seed}/{name} {margin.shape} has other images than the labels "
            f"{labels.shape}, or is NaN; {FIX_HINT}"
        )
    return Margins(margin, correct, labels, seen[labels])
