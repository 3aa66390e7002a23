"""A task on disk: images to train on (`train.h5`), to choose settings by (`validation.h5`), to judge (`test.h5`).

The first two are written alike: the seen classes, and for each seed some images of them. So are the other classes,
which have no images (`unseen.h5`), in a file of their own: what is learned without them stays when one is added.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from features.errors import InputError, nearest
from features.formats import hdf5
from features.formats.hdf5 import get_member, read_array
from features.text.text_tower import TextTower
from pipeline.artifacts.paths import TaskPaths
from pipeline.training.data import Average, ClassSet, LabelledFeatures


@dataclass(frozen=True)
class Header:
    """What a task is, and which encoder made its features. Every file carries it.

    Attributes:
        dataset: judged. trained_on: learned from; the same but for a transfer.
        missing: of each data set in use whose copy is partial, how many images it lacks.
        unreadable: how many images the feature store marks invalid, where there are any: of the seen classes in the
            training and validation splits (`training`), and of each eval_split by its name.
    """

    dataset: str
    trained_on: str
    task: str
    protocol: str
    shots: int | None
    harmonic: tuple[str, str] | None
    encoder: str
    weights_sha256: str
    missing: Mapping[str, int] = field(default_factory=dict)
    unreadable: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """Images as they stand in the feature store.

    Attributes:
        features: (N, K, D) float16. labels: (N,) int64, positions in the task's classes.
        rows: (N,) int64, positions in the feature store's split, which make the draw traceable to files.
        patches: (N, P, D) float16, where the store has patch tokens.
    """

    features: NDArray[np.float16]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    patches: NDArray[np.float16] | None = None

    def tensors(self) -> LabelledFeatures:
        """As methods take them: features float32, not normalised; patch tokens as they are stored."""
        patches = None if self.patches is None else torch.from_numpy(self.patches)
        return LabelledFeatures(torch.from_numpy(self.features).float(), torch.from_numpy(self.labels), patches)


@dataclass(frozen=True)
class EvalRows:
    """A eval_split with its images. `candidates`: (M,) int64, positions in the task's classes."""

    name: str
    average: Average
    candidates: NDArray[np.int64]
    rows: Rows


@dataclass(frozen=True)
class TrainTask:
    """`train.h5` or `validation.h5`, opened: the header, some classes of the task, and one seed's images at a time."""

    path: Path
    header: Header
    classes: ClassSet

    def seed(self, seed: int, *, patches: bool = False) -> LabelledFeatures:
        """The seed's images (N, K, D); K is 1 for validation; with patch tokens if asked for.

        Raises:
            InputError: the task was not assembled for this seed, or has no patch tokens.
        """
        return self.rows(seed, patches=patches).tensors()

    def rows(self, seed: int, *, patches: bool = False) -> Rows:
        """The same, as they stand in the feature store."""
        with opened(self.path) as file:
            if f"seed={seed}" not in file:
                seeds = [name.removeprefix("seed=") for name in file if name.startswith("seed=")]
                raise InputError(f"{self.path} holds no seed {seed}; {nearest(str(seed), seeds)}: rerun `build_task`")
            return _read_rows(get_member(file, f"seed={seed}"), patches, len(self.classes))

    def check_tower(self, tower: TextTower) -> None:
        """Refuse a text tower that is not of the encoder whose image features these are.

        Raises:
            InputError: the sha256 of their weights differ.
        """
        theirs, ours = tower.config, self.header
        if theirs.weights_sha256 != ours.weights_sha256:
            raise InputError(
                f"{self.path} holds features of encoder {ours.encoder!r} (weights {ours.weights_sha256[:12]}), but the "
                f"text tower is of {theirs.encoder!r} (weights {theirs.weights_sha256[:12]}): run `dvc repro`, or pull "
                "the features and the text tower together"
            )


def save_train(path: Path, header: Header, classes: ClassSet, draws: Mapping[int, Rows]) -> None:
    """Write `train.h5`, `validation.h5` or `unseen.h5`: classes, and the rows of each seed."""
    with hdf5.create_file(path) as file:
        _write_header(file, header)
        group = file.create_group("classes")
        group.attrs["names"] = json.dumps(classes.names, ensure_ascii=False)
        group.attrs["logit_scale"] = classes.logit_scale
        for name in ("seen", "text_features", "tokens"):
            group[name] = getattr(classes, name).numpy()
        for seed, rows in draws.items():
            _write_rows(file.create_group(f"seed={seed}"), rows)


def load_train(path: Path) -> TrainTask:
    """Open `train.h5`, `validation.h5` or `unseen.h5`.

    Raises:
        InputError: there is no such file, or it is not one of ours.
    """
    with opened(path) as file:
        group = get_member(file, "classes")
        classes = ClassSet(
            names=hdf5.text_list_attribute(group, "names"),
            logit_scale=float(group.attrs["logit_scale"]),
            **{name: torch.from_numpy(read_array(group, name)) for name in ("seen", "text_features", "tokens")},
        )
        return TrainTask(path, _read_header(file), classes)


def load_task(cell: TaskPaths) -> TrainTask:
    """`train.h5` among all classes of the task: the seen ones, then those of `unseen.h5`.

    Raises:
        InputError: a file is not there, is not one of ours, or was not written with the other.
    """
    task, named = load_train(cell.train), load_train(cell.unseen)
    if task.header != named.header:
        raise InputError(f"{cell.train} and {cell.unseen} were not written together: run `dvc repro`, or pull both")
    return replace(task, classes=task.classes.followed_by(named.classes))


def save_test(path: Path, header: Header, eval_splits: Sequence[EvalRows], names: Sequence[str]) -> None:
    """Write `test.h5`: every eval_split's images, and the classes that they are judged among; `names` of all classes."""
    with hdf5.create_file(path) as file:
        _write_header(file, header)
        file.attrs["eval_splits"] = json.dumps([eval_split.name for eval_split in eval_splits])
        file.attrs["names"] = json.dumps(list(names), ensure_ascii=False)
        for eval_split in eval_splits:
            group = file.create_group(f"eval_split={eval_split.name}")
            group.attrs["average"] = eval_split.average
            group["candidates"] = eval_split.candidates
            _write_rows(group, eval_split.rows)


def load_test(path: Path, *, patches: bool = False) -> tuple[Header, list[EvalRows]]:
    """Read `test.h5`, with patch tokens if asked for.

    Raises:
        InputError: there is no such file, it is not one of ours, or it has no patch tokens.
    """
    with opened(path) as file:
        names = hdf5.text_list_attribute(file, "eval_splits")
        classes = len(hdf5.text_list_attribute(file, "names"))
        groups = {name: get_member(file, f"eval_split={name}") for name in names}
        eval_splits = [
            EvalRows(name, _average(group), read_array(group, "candidates"), _read_rows(group, patches, classes))
            for name, group in groups.items()
        ]
        return _read_header(file), eval_splits


def load_names(path: Path) -> tuple[str, ...]:
    """The names of the task's classes, from `test.h5`.

    Raises:
        InputError: there is no such file, or it is not one of ours.
    """
    with opened(path) as file:
        return hdf5.text_list_attribute(file, "names")


def opened(path: Path) -> AbstractContextManager[h5py.File]:
    """An HDF5 file of ours, open for reading; anything else is an `InputError`."""
    return hdf5.open_file(path, "`dvc repro` makes it, `dvc pull` brings it")


def _write_header(file: Any, header: Header) -> None:
    file.attrs["header"] = json.dumps(asdict(header), sort_keys=True)


def _read_header(file: Any) -> Header:
    values = json.loads(hdf5.text_attribute(file, "header"))
    harmonic = values.pop("harmonic")
    return Header(**values, harmonic=tuple(harmonic) if harmonic else None)


def _average(group: Any) -> Average:
    return "per_class" if group.attrs["average"] == "per_class" else "micro"


def _write_rows(group: Any, rows: Rows) -> None:
    for name, value in vars(rows).items():
        if value is not None:
            group[name] = value


def _read_rows(group: Any, patches: bool, classes: int) -> Rows:
    if patches and "patches" not in group:
        raise InputError(
            f"{group.file.filename} holds no patch tokens, which this method reads: set extract.patch_tokens: true and "
            "run `dvc repro`; `extract` says what they take on disk before it makes them"
        )
    names = ("features", "labels", "rows", *(["patches"] if patches else []))
    found = Rows(*(read_array(group, name) for name in names))
    shape, count = found.features.shape, len(found.labels)
    if len(shape) != 3 or shape[0] != count or (count and not 0 <= found.labels.min() <= found.labels.max() < classes):
        raise InputError(f"{group.file.filename}: {group.name}: features {shape}, {count} labels, {classes} classes")
    return found
