"""Fit a method for every seed, on exactly what the contract gives it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from features.errors import InputError
from features.formats.files import atomic_folder
from features.formats.tensors import save_tensors
from features.text.text_tower import TextTower
from pipeline.artifacts.paths import run_label, weights
from pipeline.artifacts.synthetic import read_synthetic
from pipeline.artifacts.task import TrainTask
from pipeline.methods.base import FitData, Method
from pipeline.steps.nearest_words import Word, contexts_of, nearest_words, write_words
from pipeline.training.data import check_usable
from pipeline.training.log import TrainingLog, log_epochs_to
from pipeline.training.seeds import stream


def fit(
    method: Method,
    task: TrainTask,
    images: TrainTask,
    *,
    seeds: Sequence[int],
    tower: TextTower | None,
    synthetic: Path | None,
    device: torch.device,
    out: Path,
) -> None:
    """Write one classifier a seed, `seed=<s>.safetensors`, into `out`.

    And `log.csv` for a method that has epochs, `words.csv` for one whose classifier holds the contexts that it learned.

    Args:
        method: to fit.
        task: its classes, and training images.
        images: its validation images.
        seeds: to fit it with.
        tower: on `device`, for a method that needs it.
        synthetic: folder of a generator's features, or None for the plain method.
        device: where to fit.
        out: the folder to write.

    Raises:
        InputError: the method cannot use synthetic features, or what it is given does not fit together.
    """
    if synthetic is not None and not method.takes_synthetic:
        raise InputError(f"{type(method).__name__} has no use for synthetic features; see grid.synthetic_methods")
    if tower is not None:
        task.check_tower(tower)
    classes = task.classes.to(device)
    words: list[tuple[int, Sequence[str], Word]] = []
    with atomic_folder(out) as part, TrainingLog(part / "log.csv", run_label(out), len(seeds)) as log:
        for seed in seeds:
            train, validation = (given.seed(seed, patches=method.needs_patches).to(device) for given in (task, images))
            extra = None if synthetic is None else read_synthetic(synthetic, seed, task.classes)
            extra = extra.to(device) if extra is not None and len(extra) else None  # where no class is unseen
            check_usable(classes, train=train, validation=validation, synthetic=extra)
            rng = stream(seed, "finetune")
            with log_epochs_to(log.of(seed)):
                classifier = method.fit(
                    FitData(train, classes, synthetic=extra, validation=validation, tower=tower, rng=rng)
                )
            save_tensors(classifier.state(), weights(part, seed), weights_sha256=task.header.weights_sha256)
            if tower is not None and (contexts := contexts_of(classifier.state())) is not None:
                owners = classes.names if len(contexts) == len(classes) else [""] * len(contexts)
                words += [(seed, (owners[word.context], ""), word) for word in nearest_words(contexts, tower)]
        if words:
            write_words(part / "words.csv", words)
