"""Stage `train_generator`: train a generator for every seed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from features.formats.files import atomic_folder
from features.formats.tensors import save_tensors
from features.text.text_tower import TextTower
from pipeline.artifacts.paths import run_label, weights
from pipeline.artifacts.task import TrainTask
from pipeline.generators._prompt_vae import PromptVae
from pipeline.generators._vae import VaeGenerator, collapse_note
from pipeline.generators.base import Generator
from pipeline.steps.nearest_words import Word, nearest_words, write_words
from pipeline.training.data import LabelledFeatures, check_usable, first_of_each_class
from pipeline.training.log import TrainingLog
from pipeline.training.seeds import stream


def train_generator(
    generator: Generator, task: TrainTask, *, seeds: Sequence[int], tower: TextTower, device: torch.device, out: Path
) -> None:
    """Fit a generator on each seed's shots and write the results into the folder `out`.

    The folder holds `seed=<s>.safetensors`, `log.csv` with a row per seed and epoch, and, for a generator that reads
    images as prompts, `words.csv` with the words of one image's prompt per seen class.

    Args:
        generator: the settings to fit with.
        task: the task's classes and training images.
        seeds: a generator is fitted for each.
        tower: the text tower, on `device`.
        device: where to train.
        out: the folder to write.

    Raises:
        InputError: the features or the text tower do not fit the task, or training diverged.
    """
    words: list[tuple[int, Sequence[str], Word]] = []
    task.check_tower(tower)
    classes = task.classes.to(device)

    with atomic_folder(out) as part, TrainingLog(part / "log.csv", run_label(out), len(seeds)) as log:
        for seed in seeds:
            train = task.seed(seed, view_family=generator.view_family).to(device)
            check_usable(classes, train=train)
            if seed == seeds[0] and isinstance(generator, VaeGenerator) and (note := collapse_note(generator, train)):
                print(f"note: {run_label(out)}: {note}", file=sys.stderr)

            # The label "train_generator" is part of the seed: another one would change every result.
            rng = stream(seed, "train_generator")
            fitted = generator.fit(train, classes, tower, rng, partial(log.of(seed), generator.epochs))
            save_tensors(fitted.state_dict(), weights(part, seed), weights_sha256=task.header.weights_sha256)

            if isinstance(fitted, PromptVae):
                words += [(seed, owner, word) for owner, word in _words_of_images(fitted, train, task, seed, tower)]

        if words:
            write_words(part / "words.csv", words)


def _words_of_images(
    model: PromptVae, train: LabelledFeatures, task: TrainTask, seed: int, tower: TextTower
) -> list[tuple[tuple[str, str], Word]]:
    """Return the words of the first training image of each seen class, each with its class and its `train/<row>`."""
    first = first_of_each_class(train)
    rows = task.rows(seed).rows[first.numpy()]
    labels = train.labels.cpu()[first].tolist()
    owners = [(task.classes.names[label], f"train/{row}") for label, row in zip(labels, rows, strict=True)]

    words = nearest_words(model.contexts_of_images(train.centre[first]), tower)
    return [(owners[word.context], word) for word in words]
