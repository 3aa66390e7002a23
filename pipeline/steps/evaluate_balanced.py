"""Stage `evaluate_balanced`: score the test images again with the offsets that `select` chose.

The offsets come from validation images. They are applied to the margins that `evaluate` stored, so no classifier runs.
The accuracies of `evaluate` stay as they are: published values are of plain logits.
"""

from __future__ import annotations

from collections.abc import Sequence

from features.errors import raise_all
from features.formats.seal import write_sealed_json
from pipeline.artifacts.balanced_scores import BalancedRun, BalancedScores
from pipeline.artifacts.logits import read_logits
from pipeline.artifacts.paths import TaskPaths
from pipeline.artifacts.scores import Balance
from pipeline.artifacts.selection import Candidate, read_selection
from pipeline.metrics.balance import joined


def evaluate_balanced(cell: TaskPaths, *, seeds: Sequence[int]) -> BalancedScores:
    """Write the seen and the unseen accuracy of every run of a task with its offset.

    Args:
        cell: paths of the task. The logits and the selection are read, and the result is written to `cell.balanced`.
        seeds: seeds of the grid.

    Raises:
        InputError: a file is missing or damaged, or logits lack a seed.
    """
    runs = [_balanced(cell, candidate, seeds) for candidate in read_selection(cell.selection).runs]
    scores = BalancedScores(dataset=cell.dataset, task=cell.task, runs=tuple(runs))
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
    )
