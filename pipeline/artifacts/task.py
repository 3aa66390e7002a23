"""The files of a task: training images, validation images, unseen classes and test images.

`train.h5` and `validation.h5` have the same layout: the seen classes, and for each seed some images of them.
`unseen.h5` has this layout too, without images. It is a file of its own so that adding an unseen class does not change
`train.h5`, and a generator that was trained on it stays valid. `test.h5` holds the images of every evaluation split.
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

from features.encoding.view_families import positions_of
from features.errors import InputError, nearest
from features.formats import hdf5
from features.formats.hdf5 import get_member, read_array
from features.text.text_tower import TextTower
from pipeline.artifacts.paths import FIX_HINT, TaskPaths
from pipeline.training.data import Average, ClassSet, LabelledFeatures, ValidationFrom


@dataclass(frozen=True)
class Header:
    """Description of a task and of the encoder that computed its features. Every file of the task contains it.

    Attributes:
        dataset: data set of the test images.
        trained_on: data set of the training images; differs from `dataset` only in a transfer.
        task: name of the task.
        protocol: name of the protocol.
        shots: training images per seen class; None: all.
        harmonic: names of the two evaluation splits of H, or None.
        encoder: name of the encoder.
        weights_sha256: sha256 of the encoder's weights.
        missing: partial data set -> number of images that its copy lacks.
        unreadable: number of images that the feature store marks as invalid: under `training` those of the seen classes
            in the training and validation splits, under the name of an evaluation split those of that split. Zero
            counts are left out.
        reading: how the images of `trained_on` were read (`features.encoding.images.Reading.provenance`).
        validation_from: split of the validation images. With `test`, settings are selected on test images.
        view_families: names of the families of views that follow the first one in the training images' features.
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
    reading: Mapping[str, Any] = field(default_factory=dict)
    validation_from: ValidationFrom = "val"
    view_families: tuple[str, ...] = ()

    @property
    def transfer(self) -> bool:
        """Return whether the images of another data set are classified than those that are learned from."""
        return self.dataset != self.trained_on


@dataclass(frozen=True)
class Rows:
    """Images with their features as the feature store holds them.

    Attributes:
        features: (N, K, D) float16 features of K views.
        labels: (N,) int64 positions in the task's classes.
        rows: (N,) int64 positions in the split of the feature store, which trace each image to its file.
        patches: (N, P, D) float16 patch tokens, if the store has them.
    """

    features: NDArray[np.float16]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    patches: NDArray[np.float16] | None = None

    def centre_crops(self) -> Rows:
        """Return the same images in their first view alone."""
        return replace(self, features=self.features[:, :1])

    def tensors(self) -> LabelledFeatures:
        """Return the input of a method: float32 features, not normalized, and patch tokens as they are stored."""
        patches = None if self.patches is None else torch.from_numpy(self.patches)
        return LabelledFeatures(torch.from_numpy(self.features).float(), torch.from_numpy(self.labels), patches)


@dataclass(frozen=True)
class EvalRows:
    """An evaluation split with its images.

    Attributes:
        name: name of the evaluation split.
        average: average over images (`micro`) or over classes (`per_class`).
        candidates: (M,) int64 positions of the candidate classes in the task's classes.
        rows: the images.
    """

    name: str
    average: Average
    candidates: NDArray[np.int64]
    rows: Rows


@dataclass(frozen=True)
class TrainTask:
    """Header and classes of `train.h5`, `validation.h5` or `unseen.h5`. The images of a seed are read on demand."""

    path: Path
    header: Header
    classes: ClassSet

    def seed(self, seed: int, *, patches: bool = False, view_family: str | None = None) -> LabelledFeatures:
        """Return the images of a seed as tensors: features (N, K, D), where K is 1 for validation images.

        Args:
            seed: seed of the draw.
            patches: whether to read patch tokens as well.
            view_family: the family of the views beside the centre crop; None: the first one, which has no name.

        Raises:
            InputError: the file has no such seed, no patch tokens, or no such family.
        """
        rows = self.rows(seed, patches=patches)
        crops = positions_of(view_family, self.header.view_families, rows.features.shape[1], str(self.path))
        return replace(rows, features=rows.features[:, crops]).tensors()

    def rows(self, seed: int, *, patches: bool = False) -> Rows:
        """Return the images of a seed as arrays, with the views of all families; see `seed`."""
        with open_task_file(self.path) as file:
            if f"seed={seed}" not in file:
                seeds = [name.removeprefix("seed=") for name in file if name.startswith("seed=")]
                raise InputError(
                    f"{self.path} has no seed {seed}; {nearest(str(seed), seeds)}: run `dvc repro build_task`"
                )

            return _read_rows(get_member(file, f"seed={seed}"), patches, len(self.classes))

    def check_tower(self, tower: TextTower) -> None:
        """Check that a text tower belongs to the encoder that computed the image features.

        Raises:
            InputError: the sha256 sums of the weights differ.
        """
        config = tower.config
        header = self.header

        if config.weights_sha256 != header.weights_sha256:
            raise InputError(
                f"{self.path} has features of encoder {header.encoder!r} (weights {header.weights_sha256[:12]}), but "
                f"the text tower is of {config.encoder!r} (weights {config.weights_sha256[:12]}): run `dvc repro`, or "
                "pull the features and the text tower together"
            )


def save_train(path: Path, header: Header, classes: ClassSet, draws: Mapping[int, Rows]) -> None:
    """Write `train.h5`, `validation.h5` or `unseen.h5`: the classes, and the images of each seed (`draws`)."""
    with hdf5.create_file(path) as file:
        _write_header(file, header)

        group = file.create_group("classes")
        group.attrs["names"] = json.dumps(classes.names, ensure_ascii=False)
        group.attrs["logit_scale"] = classes.logit_scale
        for name in ("seen", "text_features", "text_norms", "tokens"):
            group[name] = getattr(classes, name).numpy()

        for seed, rows in draws.items():
            _write_rows(file.create_group(f"seed={seed}"), rows)


def load_train(path: Path) -> TrainTask:
    """Read the header and the classes of `train.h5`, `validation.h5` or `unseen.h5`.

    Raises:
        InputError: the file does not exist, or is not a file of a task.
    """
    with open_task_file(path) as file:
        group = get_member(file, "classes")
        classes = ClassSet(
            names=hdf5.text_list_attribute(group, "names"),
            seen=torch.from_numpy(read_array(group, "seen")),
            text_features=torch.from_numpy(read_array(group, "text_features")),
            text_norms=torch.from_numpy(read_array(group, "text_norms")),
            tokens=torch.from_numpy(read_array(group, "tokens")),
            logit_scale=float(group.attrs["logit_scale"]),
        )
        return TrainTask(path, _read_header(file), classes)


def load_task(cell: TaskPaths) -> TrainTask:
    """Read `train.h5` with all classes of the task: the seen ones, then those of `unseen.h5`.

    Raises:
        InputError: a file does not exist, is not a file of a task, or was not written together with the other.
    """
    train = load_train(cell.train)
    unseen = load_train(cell.unseen)
    if train.header != unseen.header:
        raise InputError(f"{cell.train} and {cell.unseen} were not written together: run `dvc repro`, or pull both")

    return replace(train, classes=train.classes.followed_by(unseen.classes))


def save_test(
    path: Path, header: Header, eval_splits: Sequence[EvalRows], names: Sequence[str], seen: Sequence[bool]
) -> None:
    """Write `test.h5`: the images and candidates of every evaluation split, and all classes.

    Args:
        path: the file to write.
        header: header of the task.
        eval_splits: the evaluation splits.
        names: C class names.
        seen: C flags; whether each class has training images.
    """
    with hdf5.create_file(path) as file:
        _write_header(file, header)
        file.attrs["eval_splits"] = json.dumps([eval_split.name for eval_split in eval_splits])
        file.attrs["names"] = json.dumps(list(names), ensure_ascii=False)
        file["seen"] = np.array(seen, bool)
        for eval_split in eval_splits:
            group = file.create_group(f"eval_split={eval_split.name}")
            group.attrs["average"] = eval_split.average
            group["candidates"] = eval_split.candidates
            _write_rows(group, eval_split.rows)


def load_test(path: Path, *, patches: bool = False) -> tuple[Header, list[EvalRows]]:
    """Read the header and the evaluation splits of `test.h5`.

    Args:
        path: path of `test.h5`.
        patches: whether to read patch tokens as well.

    Raises:
        InputError: the file does not exist, is not a file of a task, or has no patch tokens.
    """
    with open_task_file(path) as file:
        names = hdf5.text_list_attribute(file, "eval_splits")
        classes = len(hdf5.text_list_attribute(file, "names"))

        eval_splits = []
        for name in names:
            group = get_member(file, f"eval_split={name}")
            candidates = read_array(group, "candidates")
            eval_splits.append(EvalRows(name, _average(group), candidates, _read_rows(group, patches, classes)))

        return _read_header(file), eval_splits


def load_test_classes(path: Path) -> tuple[tuple[str, ...], NDArray[np.bool_]]:
    """Return the names (C) of all classes of the task and whether each is seen (C,), from `test.h5`.

    Raises:
        InputError: the file does not exist, is not a file of a task, or was written by an older version.
    """
    with open_task_file(path) as file:
        names, seen = hdf5.text_list_attribute(file, "names"), read_array(file, "seen")
        if seen.shape != (len(names),):
            raise InputError(f"{path}: {len(names)} names, but `seen` has shape {seen.shape}; {FIX_HINT}")
        return names, seen


def open_task_file(path: Path) -> AbstractContextManager[h5py.File]:
    """Open a file of a task for reading. Errors inside the context become an `InputError`."""
    return hdf5.open_sealed(path, FIX_HINT)


def _write_header(file: Any, header: Header) -> None:
    values = asdict(header)
    # Left out where they are as in the papers: such a task has the bytes that it always had.
    if not values["reading"]:
        del values["reading"]
    if values["validation_from"] == "val":
        del values["validation_from"]
    if not values["view_families"]:
        del values["view_families"]
    file.attrs["header"] = json.dumps(values, sort_keys=True)


def _read_header(file: Any) -> Header:
    values = json.loads(hdf5.text_attribute(file, "header"))
    harmonic, families = values.pop("harmonic"), tuple(values.pop("view_families", ()))
    return Header(**values, harmonic=tuple(harmonic) if harmonic else None, view_families=families)


def _average(group: Any) -> Average:
    return "per_class" if group.attrs["average"] == "per_class" else "micro"


def _write_rows(group: Any, rows: Rows) -> None:
    for name, value in vars(rows).items():
        if value is not None:
            group[name] = value


def _read_rows(group: Any, patches: bool, classes: int) -> Rows:
    if patches and "patches" not in group:
        raise InputError(
            f"{group.file.filename} has no patch tokens, which the method needs: set extract.patch_tokens: true and "
            "run `dvc repro`; `extract` prints their size on disk before it computes them"
        )

    rows = Rows(
        features=read_array(group, "features"),
        labels=read_array(group, "labels"),
        rows=read_array(group, "rows"),
        patches=read_array(group, "patches") if patches else None,
    )

    # Reject a damaged file here: labels out of range would fail later, on a GPU without a useful message.
    shape = rows.features.shape
    count = len(rows.labels)
    in_range = count == 0 or 0 <= rows.labels.min() <= rows.labels.max() < classes
    if len(shape) != 3 or shape[0] != count or not in_range:
        raise InputError(
            f"{group.file.filename}: {group.name} is inconsistent: features {shape}, {count} labels, {classes} "
            f"classes; {FIX_HINT}"
        )

    return rows
