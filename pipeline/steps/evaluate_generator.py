"""Judge a generator: its features of unseen classes against their test images, and what it learned of the seen ones.

Only a report reads what is written here. Nothing that fits may: the images are the test's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from features.formats.files import write_json
from features.text.text_tower import TextTower
from pipeline.artifacts.generator_scores import GeneratorQuality, SeedQuality
from pipeline.artifacts.paths import TaskPaths
from pipeline.artifacts.scores import EncoderId
from pipeline.artifacts.task import EvalRows, TrainTask, load_test
from pipeline.generators._vae import kl_by_unit, latent_summary
from pipeline.generators.base import Generator
from pipeline.metrics.synthetic_features import nearest_mean_accuracy, quality, spread, with_two_or_more
from pipeline.steps.fit import read_synthetic
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

    Raises:
        InputError: generator, features, task or text tower were not made for one another.
    """
    task.check_tower(tower)
    header, eval_splits = load_test(cell.test)
    real = unseen_images(eval_splits, task.classes)
    classes = task.classes.to(device)
    ids = classes.seen_ids.repeat_interleave(per_class)
    found = []
    for seed in seeds:
        model = load_generator(generator, cell.generator(name), seed, tower, device)
        train = task.seed(seed)
        seen = sample(model, ids, classes, tower, stream(seed, "judge_generator"))
        with torch.inference_mode():
            posterior = model.encode(train.to(device), classes)
        unseen, by_class = _of_unseen(real, read_synthetic(cell.synthetic(name), seed, task.classes))
        found.append(
            SeedQuality(
                seed=seed,
                unseen=unseen,
                nearest_mean={task.classes.names[i]: accuracy for i, accuracy in by_class.items()},
                seen=_spreads(train, LabelledFeatures(torch.from_numpy(seen).float()[:, None], ids.cpu())),
                latent=latent_summary(*posterior) if posterior else {},
                kl_by_latent=_kl_by_latent(*posterior) if posterior else [],
            )
        )
    judged = GeneratorQuality(
        dataset=header.dataset,
        task=header.task,
        generator=name,
        encoder=EncoderId(name=header.encoder, weights_sha256=header.weights_sha256),
        images=len(real),
        classes=len(torch.unique(real.labels)),
        named=len(task.classes.unseen_ids),
        per_class=per_class,
        seeds=tuple(found),
    )
    write_json(cell.quality(name), judged.model_dump(mode="json"))


def unseen_images(eval_splits: Sequence[EvalRows], classes: ClassSet) -> LabelledFeatures:
    """Test images (N, 1, D) of the unseen classes that have at least two, each class's from its first eval_split."""
    taken: set[int] = set()
    features, labels = [np.empty((0, 1, classes.text_features.shape[1]), np.float16)], [np.empty(0, np.int64)]
    for eval_split in eval_splits:
        fresh = [i for i in classes.unseen_ids.tolist() if i not in taken and i in eval_split.rows.labels]
        rows = np.isin(eval_split.rows.labels, fresh)
        features.append(eval_split.rows.features[rows])
        labels.append(eval_split.rows.labels[rows])
        taken.update(fresh)
    x, y = torch.from_numpy(np.concatenate(features)).float(), torch.from_numpy(np.concatenate(labels))
    return _chosen(LabelledFeatures(x, y), with_two_or_more(y))


def _of_unseen(real: LabelledFeatures, made: LabelledFeatures) -> tuple[dict[str, float], dict[int, float]]:
    """The measures, and the nearest-mean accuracy of each class; empty where there is nothing to measure on."""
    made = _chosen(made, torch.isin(made.labels, real.labels))
    if not len(real) or not bool(with_two_or_more(made.labels).all()):
        return {}, {}
    given = (real.centre, real.labels, made.centre, made.labels)
    return quality(*given), nearest_mean_accuracy(*given)


def _spreads(real: LabelledFeatures, made: LabelledFeatures) -> dict[str, float]:
    """Within-class spread of either kind that has two features of a class."""
    kinds = {"spread_real": real, "spread_synthetic": made}
    pairs = {name: _chosen(found, with_two_or_more(found.labels)) for name, found in kinds.items()}
    return {name: spread(found.centre, found.labels) for name, found in pairs.items() if len(found)}


def _kl_by_latent(mu: Tensor, log_var: Tensor) -> list[float]:
    found: list[float] = kl_by_unit(mu, log_var).mean(0).sort(descending=True).values.tolist()
    return found


def _chosen(found: LabelledFeatures, rows: Tensor) -> LabelledFeatures:
    return LabelledFeatures(found.features[rows], found.labels[rows])
