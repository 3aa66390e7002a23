"""Choose the run to use for new images, by validation alone.

Seen classes are judged by validation images. Unseen ones have none, so they are judged by held-out synthetic features:
draws of every generator and seed, which nothing was fitted on. These tell whether a run keeps unseen classes apart from
seen ones and from one another where the generator puts them. They cannot tell whether photographs lie there, and a run
that was fitted on other draws of the same generator is flattered, in the one trial there was (docs/log.md) wholly: the
run that was chosen was the worst on photographs. So the choice comes with a warning; test images are the check.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F

import pipeline.methods
from features.errors import InputError
from features.files import write_json
from features.lookup import find
from features.text_tower import TextTower
from pipeline.arrays import LabelledFeatures
from pipeline.choice import Choice, Validated
from pipeline.evaluation import open_classifier, score
from pipeline.fitting import read_synthetic
from pipeline.methods.base import Classifier, Method
from pipeline.metrics import harmonic_mean
from pipeline.paths import TaskPaths
from pipeline.scores import Cell, EncoderId
from pipeline.task_store import TrainTask, load_train

SAMPLES = 1000  # of the bootstrap
Hits = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """Validation of one kind: labels (N,) of features, and hits (R, N): the share of seeds that were right, by run."""

    labels: Tensor
    hits: Hits

    def accuracies(self, samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """(samples + 1, R): each run's mean over classes, in percent; of all rows first, then of bootstrap samples.

        Rows are drawn with replacement within their class, the same for every run, so that runs can be compared.
        """
        found = np.zeros((samples + 1, len(self.hits)))
        labels = self.labels.numpy()
        classes = np.unique(labels)
        for label in classes:
            hits = self.hits[:, labels == label]
            count = hits.shape[1]
            counts = np.vstack([np.ones(count), rng.multinomial(count, np.full(count, 1 / count), samples)])
            found += counts @ hits.T / count
        return 100 * found / len(classes)


def choose(
    cell: TaskPaths, cells: Sequence[Cell], *, seeds: Sequence[int], tower: TextTower | None, device: torch.device
) -> Choice:
    """Judge every run of a cell on validation, and write which is best.

    The best has the highest harmonic mean of seen and unseen; of equal ones the first of the grid is taken, and of its
    seeds the one that validates best. Where there is nothing to choose by, that is the first run.
    """
    task = load_train(cell.validation_images)
    images, draws = every_image(task, seeds), held_out(cell, cells, task, seeds)
    opened = partial(open_classifier, weights_sha256=task.header.weights_sha256, tower=tower, device=device)
    scored: dict[str, list[tuple[Tensor, Tensor]]] = {}
    reasons: dict[str, str] = {}
    for one in cells:
        if find(pipeline.methods, one.method, Method).needs_patches:
            reasons[one.run] = "it reads patch tokens, which synthetic features have none of"
            continue
        try:
            found = [opened(find(pipeline.methods, one.method, Method), cell.fitted(one.run), seed) for seed in seeds]
            scored[one.run] = [(_scores(c, images, device), _scores(c, draws, device)) for c in found]
        except InputError as error:  # it cannot score a class
            reasons[one.run] = str(error)
    table = _Table.of(scored, images, draws)
    best = table.best()
    chosen = next(one for one in cells if one.run == table.runs[best])
    seed = int(np.argmax(table.by_seed[best]))
    choice = Choice(
        dataset=task.header.dataset,
        task=task.header.task,
        encoder=EncoderId(name=task.header.encoder, weights_sha256=task.header.weights_sha256),
        run=chosen.run,
        method=chosen.method,
        seed=seeds[seed],
        images=len(images),
        draws=len(draws),
        confidence=table.confidence(best),
        temperature=fit_temperature(scored[chosen.run][seed][0], images.labels) if len(images) else None,
        runs=tuple(
            table.validated(one.run) if one.run in scored else Validated(run=one.run, reason=reasons[one.run])
            for one in cells
        ),
    )
    write_json(cell.chosen, choice.model_dump(mode="json"))
    return choice


@dataclass(frozen=True)
class _Table:
    """R runs on validation: (samples + 1, R) accuracies of seen and unseen and their score; (R, S) score by seed."""

    runs: tuple[str, ...]
    seen: NDArray[np.float64] | None
    unseen: NDArray[np.float64] | None
    score: NDArray[np.float64] | None
    by_seed: NDArray[np.float64]

    @classmethod
    def of(
        cls, scored: dict[str, list[tuple[Tensor, Tensor]]], images: LabelledFeatures, draws: LabelledFeatures
    ) -> _Table:
        parts: list[NDArray[np.float64] | None] = []
        by_seed: list[NDArray[np.float64] | None] = []
        for kind, rows in enumerate((images, draws)):
            if not len(rows):
                parts.append(None)
                by_seed.append(None)
                continue
            # (R, S, N): whether each seed of each run is right about each row
            right = np.array(
                [[(s[kind].argmax(1) == rows.labels).numpy() for s in seeds] for seeds in scored.values()], float
            )
            r, s, n = right.shape
            parts.append(Judged(rows.labels, right.mean(1)).accuracies(SAMPLES, np.random.default_rng(kind)))
            flat = Judged(rows.labels, right.reshape(r * s, n)).accuracies(0, np.random.default_rng(0))
            by_seed.append(flat[0].reshape(r, s))
        empty = np.zeros((len(scored), len(next(iter(scored.values())))))
        joined = _joined(*by_seed)
        return cls(tuple(scored), parts[0], parts[1], _joined(*parts), empty if joined is None else joined)

    def best(self) -> int:
        return 0 if self.score is None else int(np.argmax(self.score[0]))

    def confidence(self, best: int) -> float | None:
        """In how many of 100 samples the run is the best; a run that ties with one before it in the grid is not."""
        return None if self.score is None else float(100 * (self.score[1:].argmax(1) == best).mean())

    def validated(self, run: str) -> Validated:
        if self.score is None:
            return Validated(run=run)
        i = self.runs.index(run)
        low, high = np.percentile(self.score[1:, i], [2.5, 97.5])
        seen, unseen = (None if part is None else float(part[0, i]) for part in (self.seen, self.unseen))
        return Validated(
            run=run, seen=seen, unseen=unseen, score=float(self.score[0, i]), low=float(low), high=float(high)
        )


def _joined(seen: NDArray[np.float64] | None, unseen: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """The harmonic mean, or the one that there is."""
    if seen is None or unseen is None:
        return unseen if seen is None else seen
    joined: NDArray[np.float64] = np.vectorize(harmonic_mean, otypes=[float])(seen, unseen)
    return joined


def every_image(task: TrainTask, seeds: Sequence[int]) -> LabelledFeatures:
    """The validation images (N, 1, D) of all seeds, each once."""
    rows = [task.rows(seed) for seed in seeds]
    _, first = np.unique(np.concatenate([one.rows for one in rows]), return_index=True)
    features, labels = (np.concatenate([getattr(one, name) for one in rows])[first] for name in ("features", "labels"))
    return LabelledFeatures(torch.from_numpy(features).float(), torch.from_numpy(labels))


def held_out(cell: TaskPaths, cells: Sequence[Cell], task: TrainTask, seeds: Sequence[int]) -> LabelledFeatures:
    """The held-out draws (M, 1, D) of every generator and seed."""
    generators = dict.fromkeys(one.generator for one in cells if one.generator)
    found = [read_synthetic(cell.held_out(g), seed, task.classes) for g in generators for seed in seeds]
    none = LabelledFeatures(torch.empty(0, 1, task.classes.text_features.shape[1]), torch.empty(0, dtype=torch.int64))
    return LabelledFeatures(
        torch.cat([none.features, *(one.features for one in found)]),
        torch.cat([none.labels, *(one.labels for one in found)]),
    )


def _scores(classifier: Classifier, rows: LabelledFeatures, device: torch.device) -> Tensor:
    """(N, C) logits among all classes of the task; a classifier that cannot score one is refused even without rows."""
    ids = torch.arange(len(classifier.scored), device=device)
    return score(classifier, F.normalize(rows.features[:, 0].to(device), dim=-1), ids)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """What to divide logits (N, C) by, so that their softmax is least surprised by labels (N,) (Guo et al. 2017).

    Only images of seen classes can be asked. The same value serves unseen classes, as an extrapolation: synthetic
    features lie closer to their class than photographs do, and would make every prediction look surer than it is.
    """

    def surprise(log_temperature: float) -> float:
        return float(F.cross_entropy(logits.double() / np.exp(log_temperature), labels))

    return float(np.exp(minimize_scalar(surprise, bounds=(np.log(1e-2), np.log(1e2)), method="bounded").x))
