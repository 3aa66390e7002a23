"""Stage `evaluate_generator`: compare synthetic features with test images, and measure what the generator learned.

The features of unseen classes are compared with these classes' test images. Only the report reads what is written
here: nothing that fits or selects may, because the images are the test's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from features.formats.seal import write_sealed_json
from features.text.text_tower import TextTower
from pipeline.artifacts.generator_scores import GeneratorQuality, SeedQuality
from pipeline.artifacts.paths import TaskPaths
from pipeline.artifacts.scores import EncoderId
from pipeline.artifacts.synthetic import read_synthetic
from pipeline.artifacts.task import EvalRows, TrainTask, load_test
from pipeline.generators._vae import kl_by_unit, latent_summary
from pipeline.generators.base import Generator
from pipeline.metrics.synthetic_features import nearest_mean_accuracy, quality, spread, with_two_or_more
from pipeline.steps.synthesize import load_generator, sample
from pipeline.training.data import ClassSet, LabelledFeatures
from pipeline.training.seeds import stream


def evaluate_generator(
    generator: Generator,
    task: TrainTask,
    *,
    name: str,
    seeds: Sequence[int],
    per_class: int,
    tower: TextTower,
    device: torch.device,
    cell: TaskPaths,
) -> None:
    """Measure every seed's features and write `cell.quality(name)`.

    Args:
        generator: the settings that the generator was fitted with.
        task: the task's classes and training images.
        name: the generator's name.
        seeds: the seeds that the generator was fitted for.
        per_class: synthetic features per unseen class, and samples per seen class that are drawn here.
        tower: the text tower, on `device`.
        device: where to compute.
        cell: paths of the task's files.

    Raises:
        InputError: generator, features, task and text tower do not belong together.
    """
    task.check_tower(tower)
    header, eval_splits = load_test(cell.test)
    real = unseen_images(eval_splits, task.classes)
    classes = task.classes.to(device)
    ids = classes.seen_ids.repeat_interleave(per_class)

    scores = []
    for seed in seeds:
        model = load_generator(generator, cell.generator(name), seed, tower, device)
        train = task.seed(seed)

        # The label "judge_generator" is the stage's former name. It is part of the seed, so it must stay.
        seen = sample(model, ids, classes, tower, stream(seed, "judge_generator"))
        with torch.inference_mode():
            posterior = model.encode(train.to(device), classes)

        unseen, by_class = _compare_unseen(real, read_synthetic(cell.synthetic(name), seed, task.classes))
        scores.append(
            SeedQuality(
                seed=seed,
                unseen=unseen,
                nearest_mean={task.classes.names[i]: accuracy for i, accuracy in by_class.items()},
                seen=_spreads(train, LabelledFeatures(torch.from_numpy(seen).float()[:, None], ids.cpu())),
                latent=latent_summary(*posterior) if posterior else {},
                kl_by_latent=_kl_by_latent(*posterior) if posterior else [],
            )
        )

    result = GeneratorQuality(
        dataset=header.dataset,
        task=header.task,
        generator=name,
        encoder=EncoderId(name=header.encoder, weights_sha256=header.weights_sha256),
        images=len(real),
        classes=len(torch.unique(real.labels)),
        named=len(task.classes.unseen_ids),
        per_class=per_class,
        seeds=tuple(scores),
    )
    write_sealed_json(cell.quality(name), result.model_dump(mode="json"))


def unseen_images(eval_splits: Sequence[EvalRows], classes: ClassSet) -> LabelledFeatures:
    """Return the test images (N, 1, D) of the unseen classes that have at least two.

    A class's images are taken from the first evaluation split that has any, because the splits share images.
    """
    taken: set[int] = set()
    features = [np.empty((0, 1, classes.text_features.shape[1]), np.float16)]
    labels = [np.empty(0, np.int64)]

    for eval_split in eval_splits:
        rows_of_split = eval_split.rows
        new_ids = [i for i in classes.unseen_ids.tolist() if i not in taken and i in rows_of_split.labels]
        rows = np.isin(rows_of_split.labels, new_ids)
        features.append(rows_of_split.features[rows])
        labels.append(rows_of_split.labels[rows])
        taken.update(new_ids)

    images = LabelledFeatures(
        torch.from_numpy(np.concatenate(features)).float(), torch.from_numpy(np.concatenate(labels))
    )
    return _select(images, with_two_or_more(images.labels))


def _compare_unseen(real: LabelledFeatures, synthetic: LabelledFeatures) -> tuple[dict[str, float], dict[int, float]]:
    """Return all measures, and the nearest-mean accuracy of each class; both empty if a comparison is impossible."""
    synthetic = _select(synthetic, torch.isin(synthetic.labels, real.labels))
    if not len(real) or not bool(with_two_or_more(synthetic.labels).all()):
        return {}, {}

    arguments = (real.centre, real.labels, synthetic.centre, synthetic.labels)
    return quality(*arguments), nearest_mean_accuracy(*arguments)


def _spreads(real: LabelledFeatures, synthetic: LabelledFeatures) -> dict[str, float]:
    """Return the within-class spread of real and of synthetic features, where a class has two of them."""
    spreads = {}
    for name, features in (("spread_real", real), ("spread_synthetic", synthetic)):
        scorable = _select(features, with_two_or_more(features.labels))
        if len(scorable):
            spreads[name] = spread(scorable.centre, scorable.labels)
    return spreads


def _kl_by_latent(mu: Tensor, log_var: Tensor) -> list[float]:
    """Return the KL of each of Z latents, averaged over posteriors (N, Z), largest first."""
    kl: list[float] = kl_by_unit(mu, log_var).mean(0).sort(descending=True).values.tolist()
    return kl


def _select(features: LabelledFeatures, rows: Tensor) -> LabelledFeatures:
    """Return the rows for which `rows` (N,) bool is true."""
    return LabelledFeatures(features.features[rows], features.labels[rows])
