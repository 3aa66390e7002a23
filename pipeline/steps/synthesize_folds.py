"""Stage `synthesize_folds`: train a generator on each fold of the seen classes, and draw features of the other half.

`validate` fits the runs with synthetic features on them. The generators themselves are not kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save

from features.formats.files import atomic_folder
from features.synthetic_store import SyntheticFeatures, save_synthetic
from features.text.text_tower import TextTower
from pipeline.artifacts.paths import run_label
from pipeline.artifacts.task import TrainTask
from pipeline.generators.base import Generator
from pipeline.steps.synthesize import sample
from pipeline.training.data import check_usable
from pipeline.training.folds import folds
from pipeline.training.log import TrainingLog
from pipeline.training.seeds import stream


def synthesize_folds(
    generator: Generator,
    task: TrainTask,
    *,
    seeds: Sequence[int],
    per_class: int,
    tower: TextTower,
    device: torch.device,
    out: Path,
) -> None:
    """Write synthetic features of the classes that play unseen, for every fold and seed, into the folder `out`.

    The folder holds `fold1/` and `fold2/`, each laid out as the output of `synthesize`, with the log of the training.

    Args:
        generator: the settings to fit with.
        task: the seen classes and their training images.
        seeds: a generator is fitted for each.
        per_class: features per class that plays unseen.
        tower: the text tower, on `device`.
        device: where to train and to sample.
        out: the folder to write.

    Raises:
        InputError: the features or the text tower do not fit the task, or training diverged.
    """
    task.check_tower(tower)
    classes = task.classes.to(device)

    with atomic_folder(out) as part:
        for fold in folds(classes):
            folder = part / fold.name
            folder.mkdir()
            kept = fold.classes.subset(fold.classes.seen_ids)
            ids = fold.classes.unseen_ids.repeat_interleave(per_class)
            names = [fold.classes.names[i] for i in ids.tolist()]

            with TrainingLog(folder / "log.csv", f"{run_label(out)}/{fold.name}", len(seeds)) as log:
                for seed in seeds:
                    train = fold.images(task.seed(seed, view_family=generator.view_family).to(device))
                    check_usable(kept, train=train)

                    # The labels are part of the seed: others would change every result.
                    rng = stream(seed, "train_generator", fold.name)
                    model = generator.fit(train, kept, tower, rng, partial(log.of(seed), generator.epochs)).eval()
                    features = sample(model, ids, fold.classes, tower, stream(seed, "synthesize", fold.name))

                    weights = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
                    digest = hashlib.sha256(save(weights)).hexdigest()
                    shard = SyntheticFeatures(features, ids.cpu().numpy(), names, seed, generator_sha256=digest)
                    save_synthetic(shard, folder / f"seed={seed}")
