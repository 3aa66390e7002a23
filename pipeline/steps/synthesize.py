"""Stage `synthesize`: draw features of the unseen classes from a fitted generator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.formats.files import atomic_folder, sha256
from features.formats.tensors import load_tensors
from features.synthetic_store import SyntheticFeatures, save_synthetic
from features.text.text_tower import TextTower
from pipeline.artifacts.paths import weights
from pipeline.artifacts.task import TrainTask
from pipeline.generators.base import FittedGenerator, Generator
from pipeline.training.data import ClassSet
from pipeline.training.seeds import stream

BATCH = 256  # synthetic features in one pass


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
    """Write features of every unseen class, for every seed, into the folder `out`.

    A seed's shards are empty if no class is unseen.

    Args:
        generator: the settings that the generator was fitted with.
        task: the task's classes.
        seeds: the seeds that the generator was fitted for.
        per_class: features per unseen class.
        tower: the text tower, on `device`.
        device: where to compute.
        fitted: the folder that `train_generator` wrote.
        out: the folder to write.

    Raises:
        InputError: the generator was fitted for another encoder.
    """
    task.check_tower(tower)
    classes = task.classes.to(device)
    ids = classes.unseen_ids.repeat_interleave(per_class)
    names = [classes.names[i] for i in ids.tolist()]

    with atomic_folder(out) as part:
        for seed in seeds:
            model = load_generator(generator, fitted, seed, tower, device)
            features = sample(model, ids, classes, tower, stream(seed, "synthesize"))  # the label is part of the seed

            shard = SyntheticFeatures(
                features, ids.cpu().numpy(), names, seed, generator_sha256=sha256(weights(fitted, seed))
            )
            save_synthetic(shard, part / f"seed={seed}")


def load_generator(
    generator: Generator, fitted: Path, seed: int, tower: TextTower, device: torch.device
) -> FittedGenerator:
    """Load one seed's generator from the folder that `train_generator` wrote.

    Raises:
        InputError: the file is missing, or the generator was fitted for another encoder.
    """
    # The first weights are drawn only to be replaced; buffers and shapes come from the settings.
    model = generator.build(tower.config.embed_dim, tower, stream(seed, "build")).to(device)
    state = load_tensors(weights(fitted, seed), device, weights_sha256=tower.config.weights_sha256)
    model.load_state_dict(state)
    return model.eval()


def sample(
    model: FittedGenerator, ids: Tensor, classes: ClassSet, tower: TextTower, rng: torch.Generator
) -> NDArray[np.float16]:
    """Draw one feature for each of ids (M,), at most `BATCH` in one pass: (M, D) float16."""
    if not len(ids):
        return np.empty((0, classes.text_features.shape[1]), np.float16)

    with torch.inference_mode():
        parts = [model.sample(chunk, classes, tower, rng) for chunk in torch.split(ids, BATCH)]
    return torch.cat(parts).cpu().numpy().astype(np.float16)
