"""Stages `evaluate` and `evaluate_synthetic`: score the classifiers of every seed on every evaluation split.

A split with a class that a classifier cannot score gets a reason instead of an accuracy; tables show a dash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.formats.tensors import load_tensors
from features.text.text_tower import TextTower
from pipeline.artifacts.logits import RunLogits, stored, write_logits
from pipeline.artifacts.paths import TaskPaths, run_name, weights
from pipeline.artifacts.scores import Balance, EncoderId, Scores, SeedScores, SplitScore, write_scores
from pipeline.artifacts.task import EvalRows, Header, load_test, load_test_classes
from pipeline.methods.base import Classifier, Method
from pipeline.metrics import accuracy as metrics
from pipeline.metrics.balance import Margins, ausuc, joined, margins_of
from pipeline.metrics.diagnostics import SplitLogits, write_diagnostics

BATCH = 8192  # test images per pass, so that memory does not grow with the test set
NAMES_IN_REASON = 3  # classes that the reason for a dash names

LogitsBySeed = Mapping[int, Mapping[str, Tensor]]  # seed -> evaluation split -> (N, M); no entry without scores


def evaluate(
    method: type[Method],
    *,
    name: str,
    generator: str | None,
    seeds: Sequence[int],
    tower: TextTower | None,
    device: torch.device,
    cell: TaskPaths,
) -> None:
    """Evaluate every seed's classifier on the cell's `test.h5` and write scores, logits and diagnostics.

    Args:
        method: class of the method.
        name: its name.
        generator: name of the generator whose features it was fitted with, or None.
        seeds: seeds with a fitted classifier.
        tower: the text tower, on `device`, for a method that scores with it.
        device: where to score.
        cell: paths of the data set and task.

    Raises:
        InputError: a classifier is missing or does not fit the task, or test features are not finite.
    """
    header, splits = load_test(cell.test, patches=method.needs_patches)
    run = run_name(name, generator)
    names, seen = load_test_classes(cell.test)
    among_all = _among_all(splits, seen)
    seed_scores: list[SeedScores] = []
    logits: dict[int, dict[str, Tensor]] = {}
    margins: dict[int, dict[str, Margins]] = {}

    for seed in seeds:
        classifier = open_classifier(
            method, cell.fitted(run), seed, weights_sha256=header.weights_sha256, tower=tower, device=device
        )
        scores: dict[str, SplitScore] = {}
        logits[seed] = {}
        for split in splits:
            scores[split.name], split_logits = _evaluate_split(classifier, split, names, device)
            if split_logits is not None:
                logits[seed][split.name] = split_logits

        margins[seed] = {
            split.name: margins_of(logits[seed][split.name], _candidate_index(split).numpy(), among_all[split.name])
            for split in splits
            if split.name in among_all and split.name in logits[seed]
        }
        seed_scores.append(_seed_scores(seed, scores, header, margins[seed]))

    write_logits(cell.logits(run), _run_logits(splits, logits, among_all, margins))
    write_diagnostics(
        cell.diagnostics(run),
        _split_logits(splits, names, logits),
        cell.fitted(run),
        [joined(list(by_split.values())) for by_split in margins.values() if by_split],
    )
    write_scores(cell.scores(run), _scores(header, name, generator, seed_scores))


def _scores(header: Header, method: str, generator: str | None, seeds: Sequence[SeedScores]) -> Scores:
    """Return the content of the score file of a run."""
    return Scores(
        dataset=header.dataset,
        trained_on=header.trained_on,
        task=header.task,
        protocol=header.protocol,
        run=run_name(method, generator),
        method=method,
        generator=generator,
        shots=header.shots,
        encoder=EncoderId(name=header.encoder, weights_sha256=header.weights_sha256),
        harmonic=header.harmonic,
        unreadable=dict(header.unreadable),
        seeds=tuple(seeds),
        missing=dict(header.missing),
        validation_from=header.validation_from,
    )


def open_classifier(
    method: type[Method],
    fitted: Path,
    seed: int,
    *,
    weights_sha256: str,
    tower: TextTower | None,
    device: torch.device,
) -> Classifier:
    """Return one seed's classifier from a folder of fitted ones, on a device and ready to score.

    Args:
        method: class of the method.
        fitted: the folder.
        seed: of the classifier.
        weights_sha256: identity of the encoder's weights.
        tower: the text tower, for a method that scores with it.
        device: where the classifier will be.

    Raises:
        InputError: the file is missing, or belongs to another encoder.
    """
    classifier = method.classifier(**load_tensors(weights(fitted, seed), device, weights_sha256=weights_sha256))
    return with_tower(classifier, method, tower)


def with_tower(classifier: Classifier, method: type[Method], tower: TextTower | None) -> Classifier:
    """Return a classifier of a method ready to score: with the text tower if it scores with one."""
    return classifier.with_text_tower(tower) if tower is not None and method.scores_with_text_tower else classifier


def score(classifier: Classifier, features: Tensor, candidates: Tensor) -> Tensor:
    """Return the logits (N, M) of `LabelledFeatures.scored`, on the CPU, computed in passes of bounded size."""
    with torch.inference_mode():
        return torch.cat([classifier.logits(part, candidates).cpu() for part in torch.split(features, BATCH)])


def _evaluate_split(
    classifier: Classifier, split: EvalRows, names: Sequence[str], device: torch.device
) -> tuple[SplitScore, Tensor | None]:
    """Return the score of an evaluation split and its logits (N, M); a reason and no logits if it cannot be scored."""
    candidates = torch.from_numpy(split.candidates).to(device)
    rows = split.rows.tensors().to(device)
    result = SplitScore(accuracy=None, n=len(rows), classes=len(candidates), average=split.average, reason="")

    unscored = candidates[~classifier.scored[candidates]]
    if len(unscored):
        reason = _reason([names[i] for i in unscored.tolist()], len(candidates))
        return result.model_copy(update={"reason": reason}), None

    logits = score(classifier, rows.scored, candidates)
    measure = metrics.per_class_accuracy if split.average == "per_class" else metrics.accuracy
    accuracy = measure(logits, _candidate_index(split))
    return result.model_copy(update={"accuracy": accuracy, "reason": None}), logits


def _reason(unscored: Sequence[str], candidates: int) -> str:
    """Return the reason for a dash: how many of the candidates cannot be scored, why, and the first names."""
    named = [repr(name) for name in unscored[:NAMES_IN_REASON]]
    more = len(unscored) - len(named)
    which = f"{', '.join(named)} and {more} more" if more else ", ".join(named)
    return (
        f"{len(unscored)} of {candidates} classes cannot be scored: "
        f"the method has no training features for them ({which})"
    )


def _among_all(splits: Sequence[EvalRows], seen: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """Return which candidates are seen classes (C,), for each split whose candidates are the task's classes in order.

    Nothing if the task has seen classes only, or unseen classes only.
    """
    if seen.all() or not seen.any():
        return {}
    everything = np.arange(len(seen))
    return {split.name: seen for split in splits if np.array_equal(split.candidates, everything)}


def _candidate_index(split: EvalRows) -> Tensor:
    """Return the index (N,) int64 of each image's class among the candidates."""
    index = {int(class_id): i for i, class_id in enumerate(split.candidates)}
    return torch.tensor([index[int(label)] for label in split.rows.labels])


def _split_logits(
    splits: Sequence[EvalRows], names: Sequence[str], logits: LogitsBySeed
) -> dict[str, list[SplitLogits]]:
    """Return the logits of every evaluation split that some seed could score, by its name."""
    by_split: dict[str, list[SplitLogits]] = {}
    for split in splits:
        candidates = [names[int(class_id)] for class_id in split.candidates]
        scored = [seed[split.name] for seed in logits.values() if split.name in seed]
        if scored and candidates:
            by_split[split.name] = [SplitLogits(values, _candidate_index(split), candidates) for values in scored]
    return by_split


def _seed_scores(
    seed: int, scores: dict[str, SplitScore], header: Header, margins: Mapping[str, Margins]
) -> SeedScores:
    """Return the scores of a seed: with H if the task has a pair of splits, and with the curve if it has margins."""
    pair = header.harmonic
    harmonic_mean = metrics.harmonic_mean(*(scores[name].accuracy for name in pair)) if pair else None
    result = SeedScores(seed=seed, eval_splits=scores, harmonic_mean=harmonic_mean)

    everything = joined(list(margins.values())) if margins else None
    area = ausuc(everything) if everything else None
    if everything is None or area is None:
        return result
    return result.model_copy(update={"plain": Balance.at(everything, 0.0), "ausuc": area})


def _run_logits(
    splits: Sequence[EvalRows],
    logits: LogitsBySeed,
    seen: Mapping[str, NDArray[np.bool_]],
    margins: Mapping[int, Mapping[str, Margins]],
) -> RunLogits:
    """Return the logits as they are stored, with the labels once per evaluation split."""
    labels = {split.name: _candidate_index(split).numpy() for split in splits}
    seeds = {seed: {name: stored(values) for name, values in by_split.items()} for seed, by_split in logits.items()}
    return RunLogits(labels=labels, seeds=seeds, seen=seen, margins=margins)
