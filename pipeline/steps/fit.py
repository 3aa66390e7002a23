"""Stages `fit` and `fit_synthetic`: fit a method for every seed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from features.errors import InputError
from features.formats.files import atomic_folder
from features.formats.tensors import save_tensors
from features.text.text_tower import TextTower
from pipeline.artifacts.paths import run_label, weights
from pipeline.artifacts.searches import edge_warnings, write_searches
from pipeline.artifacts.synthetic import read_synthetic
from pipeline.artifacts.task import TrainTask
from pipeline.methods.base import FitData, Method
from pipeline.steps.nearest_words import Word, contexts_of, nearest_words, write_words
from pipeline.training.data import LabelledFeatures, check_usable
from pipeline.training.log import Search, TrainingLog, log_epochs_to, log_searches_to
from pipeline.training.seeds import stream


def fit(
    method: Method,
    task: TrainTask,
    validation_task: TrainTask,
    *,
    seeds: Sequence[int],
    tower: TextTower | None,
    synthetic: Path | None,
    device: torch.device,
    out: Path,
) -> None:
    """Fit a method on each seed's images and write the classifiers into the folder `out`.

    The folder holds `seed=<s>.safetensors`; `log.csv` with a row per seed and epoch, for a method that has epochs;
    `searches.csv` with the settings that were selected on validation images, if there are any; and `words.csv` with the
    words nearest to the learned contexts, for a method that learns prompts. A selected value at the end of its range is
    printed.

    Args:
        method: the settings to fit with.
        task: the task's classes and training images.
        validation_task: the task's validation images.
        seeds: a classifier is fitted for each.
        tower: the text tower, on `device`, for a method that needs it.
        synthetic: folder of a generator's features, or None for the plain method.
        device: where to fit.
        out: the folder to write.

    Raises:
        InputError: the method cannot use synthetic features, or features or text tower do not fit the task.
    """
    if synthetic is not None and not method.takes_synthetic:
        raise InputError(
            f"{type(method).__name__} does not accept synthetic features: remove it from grid.synthetic_methods"
        )
    if tower is not None:
        task.check_tower(tower)
    classes = task.classes.to(device)
    words: list[tuple[int, Sequence[str], Word]] = []
    searches: list[tuple[int, Search]] = []

    with atomic_folder(out) as part, TrainingLog(part / "log.csv", run_label(out), len(seeds)) as log:
        for seed in seeds:
            train = task.seed(seed, patches=method.needs_patches, view_family=method.family_of_views).to(device)
            validation = validation_task.seed(seed, patches=method.needs_patches).to(device)
            pool = _synthetic_pool(synthetic, seed, task, device)
            check_usable(classes, train=train, validation=validation, synthetic=pool)

            rng = stream(seed, "finetune")  # the label is part of the seed: another one would change every result
            data = FitData(
                train,
                classes,
                synthetic=pool,
                validation=validation,
                tower=tower,
                rng=rng,
                transfer=task.header.transfer,
            )
            found: list[Search] = []
            with log_epochs_to(log.of(seed)), log_searches_to(found.append):
                classifier = method.fit(data)
            searches += [(seed, search) for search in found]
            save_tensors(classifier.state(), weights(part, seed), weights_sha256=task.header.weights_sha256)

            contexts = contexts_of(classifier.state())
            if tower is not None and contexts is not None:
                # One context per class belongs to that class; otherwise contexts are shared and have no owner.
                owners = classes.names if len(contexts) == len(classes) else [""] * len(contexts)
                words += [(seed, (owners[word.context], ""), word) for word in nearest_words(contexts, tower)]

        if words:
            write_words(part / "words.csv", words)
        if searches:
            write_searches(part / "searches.csv", searches)

    for warning in edge_warnings(searches):
        print(f"{run_label(out)}: {warning}", file=sys.stderr)


def _synthetic_pool(folder: Path | None, seed: int, task: TrainTask, device: torch.device) -> LabelledFeatures | None:
    """Return a seed's synthetic features on the device; None without a generator, or if no class is unseen."""
    if folder is None:
        return None
    pool = read_synthetic(folder, seed, task.classes)
    return pool.to(device) if len(pool) else None
