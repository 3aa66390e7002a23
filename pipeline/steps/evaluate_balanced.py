"""Stage `evaluate_balanced`: score the test images again with the offsets that `select` chose.

The offsets come from validation images. They are applied to the margins that `evaluate` stored, so no classifier runs.
The accuracies of `evaluate` stay as they are: published values are of plain logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from features.errors import raise_all
from features.formats.seal import write_sealed_json
from pipeline.artifacts.balanced_scores import BalancedRun, BalancedScores, ReliabilityBin
from pipeline.artifacts.logits import RunLogits, read_logits
from pipeline.artifacts.paths import TaskPaths
from pipeline.artifacts.scores import Balance
from pipeline.artifacts.selection import Candidate, read_selection
from pipeline.metrics.balance import joined
from pipeline.metrics.diagnostics import reliability


def evaluate_balanced(cell: TaskPaths, *, seeds: Sequence[int]) -> BalancedScores:
    """Write the seen and the unseen accuracy of every run of a task with its offset, and its calibrated reliability.

    Args:
        cell: paths of the task. The logits and the selection are read, and the result is written to `cell.balanced`.
        seeds: seeds of the grid.

    Raises:
        InputError: a file is missing or damaged, or logits lack a seed.
    """
    selection = read_selection(cell.selection)
    runs = [_balanced(cell, candidate, seeds) for candidate in selection.runs]
    scores = BalancedScores(dataset=cell.dataset, task=cell.task, runs=tuple(runs), selection=selection)
    write_sealed_json(cell.balanced, scores.model_dump(mode="json"))
    return scores


def _balanced(cell: TaskPaths, candidate: Candidate, seeds: Sequence[int]) -> BalancedRun:
    """Return the accuracies of one run."""
    path = cell.logits(candidate.run)
    logits = read_logits(path)
    missing = [f"seed {seed}" for seed in seeds if seed not in logits.seeds]
    raise_all(missing, f"{path} lacks seeds of the grid; run `dvc repro evaluate`")

    by_seed = {seed: joined(list(logits.margins[seed].values())) for seed in seeds if logits.margins.get(seed)}
    scored = {seed: margins for seed, margins in by_seed.items() if margins.has_both_groups}
    reason = candidate.reason
    if len(scored) < len(seeds):
        reason = reason or "there are no test images of both kinds of classes"
    return BalancedRun(
        run=candidate.run,
        offsets=candidate.offsets,
        reason=reason,
        seeds={seed: Balance.at(margins, candidate.offsets.get(seed, 0.0)) for seed, margins in scored.items()},
        reliability=tuple(_reliability(logits, candidate, seeds)),
    )


def _reliability(logits: RunLogits, candidate: Candidate, seeds: Sequence[int]) -> Iterator[ReliabilityBin]:
    """Yield the bins of the calibrated probabilities of a run, by evaluation split; none without a temperature."""
    if candidate.temperature is None:
        return
    for split, labels in logits.labels.items():
        of_seeds = [
            logits.seeds[seed][split].astype(np.float64) - candidate.offsets.get(seed, 0.0) * logits.seen.get(split, 0)
            for seed in seeds
            if split in logits.seeds[seed]
        ]
        if not of_seeds:
            continue
        calibrated = torch.from_numpy(np.concatenate(of_seeds)) / candidate.temperature
        bins = reliability(calibrated, torch.from_numpy(np.tile(labels, len(of_seeds))))
        for _, images, confidence, accuracy in bins:
            # Rounded, because further digits differ by machine.
            yield ReliabilityBin(
                eval_split=split, images=images, confidence=round(confidence, 4), accuracy=round(accuracy, 4)
            )
