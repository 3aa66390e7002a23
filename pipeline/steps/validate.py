"""Stages `validate` and `validate_synthetic`: score validation images with a run, and with its fits on two folds.

The run itself shows how accurate it is on seen classes when unseen ones are candidates. Only its fits on the folds
(`pipeline.training.folds`) show what happens to classes without images. `select` needs both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.errors import InputError
from features.formats.files import atomic_folder
from features.text.text_tower import TextTower
from pipeline.artifacts.logits import TASK, RunLogits, stored, write_logits
from pipeline.artifacts.paths import logits_file, run_label
from pipeline.artifacts.synthetic import read_synthetic
from pipeline.artifacts.task import TrainTask
from pipeline.methods.base import Classifier, FitData, Method
from pipeline.metrics.balance import margins_of
from pipeline.steps.evaluate import open_classifier, score, with_tower
from pipeline.training.data import LabelledFeatures, check_usable
from pipeline.training.folds import NAMES, Fold, folds
from pipeline.training.log import LogCallback, Row, TrainingLog, log_epochs_to
from pipeline.training.seeds import stream

Bools = NDArray[np.bool_]


def validate(
    method: Method,
    task: TrainTask,
    validation_task: TrainTask,
    *,
    seeds: Sequence[int],
    tower: TextTower | None,
    fitted: Path,
    synthetic: Path | None,
    device: torch.device,
    out: Path,
) -> None:
    """Write the logits of a run on the validation images of the seen classes, and those of its fits on the folds.

    The folder `out` holds `seed=<s>.h5`, each with an evaluation split `task`, whose candidates are all classes of the
    task, and `fold1` and `fold2`, whose candidates are the seen classes. The images are the same in all three. Without
    unseen classes there is nothing to learn from folds, and the file has `task` alone. Logits are left out where a
    candidate cannot be scored, or where the fit on a fold failed; the file then has the reason. The logs of the fits
    are `fold1.csv` and `fold2.csv`.

    Args:
        method: the settings that the run was fitted with.
        task: the task's classes and training images.
        validation_task: the task's validation images.
        seeds: seeds of the run.
        tower: the text tower, on `device`, for a method that needs it.
        fitted: folder of the run's classifiers.
        synthetic: folder that `synthesize_folds` wrote, or None for a run without a generator.
        device: where to fit and to score.
        out: the folder to write.

    Raises:
        InputError: a classifier is missing or of another encoder, features do not fit the task, or the validation
            images are test images.
    """
    if validation_task.header.validation_from == "test":
        raise InputError(
            f"task {task.header.task!r} has `validation_from: test`, so a run would be selected on test images: remove "
            "the task from grid.select, or set `validation_from: train`"
        )
    if tower is not None:
        task.check_tower(tower)
    classes = task.classes.to(device)

    with atomic_folder(out) as part, ExitStack() as stack:
        logs = {
            name: stack.enter_context(TrainingLog(part / f"{name}.csv", f"{run_label(out)}/{name}", len(seeds)))
            for name in NAMES
        }
        for seed in seeds:
            train = task.seed(seed, patches=method.needs_patches, view_family=method.family_of_views).to(device)
            validation = validation_task.seed(seed, patches=method.needs_patches).to(device)
            check_usable(classes, train=train, validation=validation)

            classifier = open_classifier(
                type(method), fitted, seed, weights_sha256=task.header.weights_sha256, tower=tower, device=device
            )
            run_logits = validate_seed(
                method,
                classifier,
                FitData(
                    train,
                    classes,
                    synthetic=None,
                    validation=validation,
                    tower=tower,
                    rng=stream(seed),
                    transfer=task.header.transfer,
                ),
                seed=seed,
                fold_features=partial(_fold_features, synthetic, seed, device),
                logs={name: log.of(seed) for name, log in logs.items()},
            )
            write_logits(logits_file(part, seed), run_logits)


def validate_seed(
    method: Method,
    classifier: Classifier,
    data: FitData,
    *,
    seed: int,
    fold_features: Callable[[Fold], LabelledFeatures | None],
    logs: Mapping[str, LogCallback] = MappingProxyType({}),
) -> RunLogits:
    """Return the logits of one seed of a run, and of its fits on the folds, on the validation images.

    Args:
        method: the settings that the run was fitted with.
        classifier: the run's classifier.
        data: what it was fitted on; synthetic features and random numbers are replaced for the folds.
        seed: the seed of the run.
        fold_features: returns synthetic features of the classes that play unseen in a fold, or None.
        logs: fold -> callback for the epochs of the fit on it.
    """
    classes, device = data.classes, data.train.labels.device
    result = _Result(data.validation, method)
    result.add(TASK, classifier, torch.arange(len(classes), device=device), classes.seen.cpu().numpy())
    if not len(classes.unseen_ids):
        return result.run_logits(seed)

    for fold in folds(classes.subset(classes.seen_ids)):
        on_fold = replace(
            data,
            train=fold.images(data.train),
            classes=fold.classes,
            synthetic=fold_features(fold),
            validation=fold.images(data.validation),
            rng=stream(seed, "finetune", fold.name),  # other labels would change every result
        )
        try:
            with log_epochs_to(logs.get(fold.name, _no_log)):
                fitted = with_tower(method.fit(on_fold), type(method), data.tower)
                fitted = replace(fitted, **{name: getattr(classifier, name) for name in classifier.searched})
        except InputError as error:
            result.problems[fold.name] = str(error)
        else:
            result.add(fold.name, fitted, fold.position.to(device), fold.seen.numpy())

    return result.run_logits(seed)


def _fold_features(folder: Path | None, seed: int, device: torch.device, fold: Fold) -> LabelledFeatures | None:
    """Return a seed's synthetic features for a fold on the device; None without a generator."""
    return read_synthetic(folder / fold.name, seed, fold.classes).to(device) if folder else None


def _no_log(epochs: int, row: Row) -> None:
    """Drop the row of an epoch."""


class _Result:
    """The logits of the validation images of one seed, by evaluation split."""

    def __init__(self, images: LabelledFeatures, method: Method) -> None:
        self.images, self.method = images, method
        self.logits: dict[str, Tensor] = {}
        self.seen: dict[str, Bools] = {}
        self.problems: dict[str, str] = {}

    def add(self, name: str, classifier: Classifier, candidates: Tensor, seen: Bools) -> None:
        """Score the images among some candidates; `seen` tells which of the candidates are seen classes."""
        self.seen[name] = seen
        if bool(classifier.scored[candidates].all()):
            images = self.images.scored if self.method.needs_patches else self.images.centre
            self.logits[name] = score(classifier, images, candidates)

    def run_logits(self, seed: int) -> RunLogits:
        """Return the logits as they are stored, with the margins of each image."""
        labels = self.images.host_labels.numpy()
        margins = {
            name: margins_of(self.logits[name], labels, seen) for name, seen in self.seen.items() if name in self.logits
        }
        return RunLogits(
            labels=dict.fromkeys([TASK, *self.seen, *self.problems], labels),
            seeds={seed: {name: stored(values) for name, values in self.logits.items()}},
            seen=self.seen,
            margins={seed: margins},
            problems=self.problems,
            fitted_to_images=self.method.fitted_to_images,
        )
