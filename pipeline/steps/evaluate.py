"""Score fitted classifiers: every seed, every eval_split; a dash with its reason where a class cannot be scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from features.formats.tensors import load_tensors
from features.text.text_tower import TextTower
from pipeline.artifacts.logits import RunLogits, write_logits
from pipeline.artifacts.paths import TaskPaths, run_name, weights
from pipeline.artifacts.scores import EncoderId, Scores, SeedScores, SplitScore, write_scores
from pipeline.artifacts.task import EvalRows, Header, load_names, load_test
from pipeline.methods.base import Classifier, Method
from pipeline.metrics import accuracy as metrics
from pipeline.metrics.diagnostics import SplitLogits, write_diagnostics

BATCH = 8192  # test images a pass, so that memory does not grow with the test set
NAMED = 3  # classes that the reason for a dash names


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
    """Judge every seed's classifier on the cell's `test.h5`; write its scores, its logits and its diagnostics."""
    header, eval_splits = load_test(cell.test, patches=method.needs_patches)
    run, names = run_name(name, generator), load_names(cell.test)
    found, logits = [], {}
    for seed in seeds:
        classifier = open_classifier(
            method, cell.fitted(run), seed, weights_sha256=header.weights_sha256, tower=tower, device=device
        )
        results = {j.name: _judge(classifier, j, names, device) for j in eval_splits}
        logits[seed] = {j: scored for j, (_, scored) in results.items() if scored is not None}
        found.append(_seed_scores(seed, {j: judged for j, (judged, _) in results.items()}, header))
    write_logits(cell.logits(run), _stored(eval_splits, logits))
    write_diagnostics(cell.diagnostics(run), _scored(eval_splits, names, logits), cell.fitted(run))
    scores = Scores(
        dataset=header.dataset,
        trained_on=header.trained_on,
        task=header.task,
        protocol=header.protocol,
        run=run,
        method=name,
        generator=generator,
        shots=header.shots,
        encoder=EncoderId(name=header.encoder, weights_sha256=header.weights_sha256),
        harmonic=header.harmonic,
        unreadable=dict(header.unreadable),
        seeds=tuple(found),
        missing=dict(header.missing),
    )
    write_scores(cell.scores(run), scores)


def open_classifier(
    method: type[Method],
    fitted: Path,
    seed: int,
    *,
    weights_sha256: str,
    tower: TextTower | None,
    device: torch.device,
) -> Classifier:
    """One seed's classifier from a folder of them, on a device and ready to score; `tower` for those that need it.

    Raises:
        InputError: it is not there, or was fitted for another encoder.
    """
    classifier = method.classifier(**load_tensors(weights(fitted, seed), device, weights_sha256=weights_sha256))
    return classifier.with_text_tower(tower) if tower is not None and method.scores_with_text_tower else classifier


def score(classifier: Classifier, features: Tensor, candidates: Tensor) -> Tensor:
    """(N, M) logits of features, or patch tokens, on the CPU, in passes of bounded size."""
    with torch.inference_mode():
        return torch.cat([classifier.logits(part, candidates).cpu() for part in torch.split(features, BATCH)])


def _judge(
    classifier: Classifier, eval_split: EvalRows, names: Sequence[str], device: torch.device
) -> tuple[SplitScore, Tensor | None]:
    """The eval_split, and its logits (N, M), or a dash with the reason and no logits."""
    candidates = torch.from_numpy(eval_split.candidates).to(device)
    rows = eval_split.rows.tensors().to(device)
    judged = SplitScore(accuracy=None, n=len(rows), classes=len(candidates), average=eval_split.average, reason="")
    if len(unscored := candidates[~classifier.scored[candidates]]):
        reason = _why([names[i] for i in unscored.tolist()], len(candidates))
        return judged.model_copy(update={"reason": reason}), None
    logits = score(classifier, rows.centre if rows.patches is None else rows.patches, candidates)
    labels = _places(eval_split)
    measure = metrics.per_class_accuracy if eval_split.average == "per_class" else metrics.accuracy
    return judged.model_copy(update={"accuracy": measure(logits, labels), "reason": None}), logits


def _why(unscored: Sequence[str], candidates: int) -> str:
    """Why there is a dash: how many of the candidates cannot be scored, which, and what they lack."""
    named = [repr(name) for name in unscored[:NAMED]]
    more = len(unscored) - len(named)
    which = f"{', '.join(named)} and {more} more" if more else ", ".join(named)
    return f"{len(unscored)} of {candidates} classes cannot be scored, for no image stands for them: {which}"


def _places(eval_split: EvalRows) -> Tensor:
    """(N,) int64: where each image's class stands among the candidates."""
    places = {int(c): i for i, c in enumerate(eval_split.candidates)}
    return torch.tensor([places[int(label)] for label in eval_split.rows.labels])


def _scored(
    eval_splits: Sequence[EvalRows], names: Sequence[str], logits: Mapping[int, Mapping[str, Tensor]]
) -> dict[str, list[SplitLogits]]:
    """Every eval_split that some seed could score, by name."""
    return {
        eval_split.name: [SplitLogits(seed[eval_split.name], _places(eval_split), candidates) for seed in scored]
        for eval_split in eval_splits
        if (scored := [seed for seed in logits.values() if eval_split.name in seed])
        and (candidates := [names[int(c)] for c in eval_split.candidates])
    }


def _seed_scores(seed: int, eval_splits: dict[str, SplitScore], header: Header) -> SeedScores:
    pair = header.harmonic
    h = metrics.harmonic_mean(*(eval_splits[name].accuracy for name in pair)) if pair else None
    return SeedScores(seed=seed, eval_splits=eval_splits, harmonic_mean=h)


def _stored(eval_splits: Sequence[EvalRows], logits: Mapping[int, Mapping[str, Tensor]]) -> RunLogits:
    return RunLogits(
        labels={eval_split.name: _places(eval_split).numpy() for eval_split in eval_splits},
        seeds={
            seed: {name: values.numpy().astype(np.float16) for name, values in judged.items()}
            for seed, judged in logits.items()
        },
    )
