"""Train a generator for every seed, and let it synthesize the unseen classes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.formats.files import atomic_folder, sha256
from features.formats.tensors import load_tensors, save_tensors
from features.synthetic_store import SyntheticFeatures, save_synthetic
from features.text.text_tower import TextTower
from pipeline.generators.base import FittedGenerator, Generator
from pipeline.learning.arrays import ClassSet, LabelledFeatures, refuse_unusable
from pipeline.learning.interpretation import Word, contexts_of_images, first_of_each_class, nearest_words, write_words
from pipeline.learning.seeds import stream
from pipeline.learning.synthesized_prompts import PromptVae
from pipeline.learning.task_store import TrainTask
from pipeline.learning.training_log import TrainingLog
from pipeline.paths import run_label, weights

BATCH = 256  # synthetic features a pass


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
    found = nearest_words(contexts_of_images(model, train.centre[chosen]), tower)
    return [(owners[word.context], word) for word in found]


def synthesize(
    generator: Generator,
    task: TrainTask,
    *,
    seeds: Sequence[int],
    per_class: int,
    tower: TextTower,
    device: torch.device,
    fitted: Path,
    out: Path,
) -> None:
    """Write `per_class` features of every unseen class, for every seed, into `out`; none where no class is unseen.

    Raises:
        InputError: the generator was fitted for another encoder.
    """
    task.check_tower(tower)
    classes = task.classes.to(device)
    with atomic_folder(out) as part:
        for seed in seeds:
            model = restored(generator, fitted, seed, tower, device)
            ids = classes.unseen_ids.repeat_interleave(per_class)
            features = sample(model, ids, classes, tower, stream(seed, "synthesize"))
            names = [classes.names[i] for i in ids.tolist()]
            origin = sha256(weights(fitted, seed))
            found = SyntheticFeatures(features, ids.cpu().numpy(), names, seed, generator_sha256=origin)
            save_synthetic(found, part / f"seed={seed}")


def restored(generator: Generator, fitted: Path, seed: int, tower: TextTower, device: torch.device) -> FittedGenerator:
    """One seed's fitted generator out of the folder that `train_generator` wrote.

    Raises:
        InputError: there is none, or it was fitted for another encoder.
    """
    model = generator.build(tower.config.embed_dim, tower, stream(seed, "build")).to(device)
    sha = tower.config.weights_sha256
    model.load_state_dict(load_tensors(weights(fitted, seed), device, weights_sha256=sha))
    return model.eval()


def sample(
    model: FittedGenerator, ids: Tensor, classes: ClassSet, tower: TextTower, rng: torch.Generator
) -> NDArray[np.float16]:
    """One feature of each of ids (M,), in passes of bounded size: (M, D) float16."""
    if not len(ids):
        return np.empty((0, classes.text_features.shape[1]), np.float16)
    with torch.inference_mode():
        parts = [model.sample(chunk, classes, tower, rng) for chunk in torch.split(ids, BATCH)]
    return torch.cat(parts).cpu().numpy().astype(np.float16)
