"""Stage `train_generator`: train a generator for every seed."""

from __future__ import annotations

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
from pipeline.generators.base import Generator
from pipeline.steps.nearest_words import Word, nearest_words, write_words
from pipeline.training.data import LabelledFeatures, first_of_each_class, refuse_unusable
from pipeline.training.log import TrainingLog
from pipeline.training.seeds import stream


def train_generator(
    generator: Generator, task: TrainTask, *, seeds: Sequence[int], tower: TextTower, device: torch.device, out: Path
) -> None:
    """Fit on each seed's shots; write `seed=<s>.safetensors` and `log.csv`, a row a seed and epoch, into `out`.

    And `words.csv` for a generator of prompts with an encoder: the words of an image's prompt, one image a seen class.
    """
    words: list[tuple[int, Sequence[str], Word]] = []
    task.check_tower(tower)
    classes = task.classes.to(device)
    with atomic_folder(out) as part, TrainingLog(part / "log.csv", run_label(out), len(seeds)) as log:
        for seed in seeds:
            train = task.seed(seed).to(device)
            refuse_unusable(classes, train=train)
            take = partial(log.of(seed), generator.epochs)
            fitted = generator.fit(train, classes, tower, stream(seed, "train_generator"), take)
            save_tensors(fitted.state_dict(), weights(part, seed), weights_sha256=task.header.weights_sha256)
            if isinstance(fitted, PromptVae):
                words += [(seed, *word) for word in _words(fitted, train, task, seed, tower)]
        if words:
            write_words(part / "words.csv", words)


def _words(
    model: PromptVae, train: LabelledFeatures, task: TrainTask, seed: int, tower: TextTower
) -> list[tuple[Sequence[str], Word]]:
    chosen = first_of_each_class(train)
    rows, labels = task.rows(seed).rows[chosen.numpy()], train.labels.cpu()[chosen].tolist()
    owners = [(task.classes.names[label], f"train/{row}") for label, row in zip(labels, rows, strict=True)]
    found = nearest_words(model.contexts_of_images(train.centre[chosen]), tower)
    return [(owners[word.context], word) for word in found]
