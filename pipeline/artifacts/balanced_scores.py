"""Accuracies of all runs of a task with the offsets that `select` chose; `evaluate_balanced` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from features.formats.seal import read_sealed_json
from features.settings import Settings, parse
from pipeline.artifacts.scores import RECREATE_HINT, Balance, Count, Percent
from pipeline.artifacts.selection import Selection

Seed = Annotated[int, Field(strict=False)]  # JSON has text keys only


class ReliabilityBin(Settings):
    """Test images whose highest calibrated probability is in one bin; means in percent, all seeds together."""

    eval_split: str
    images: Count
    confidence: Percent
    accuracy: Percent


class BalancedRun(Settings):
    """One run with its offsets.

    Attributes:
        run: name of the run.
        offsets: seed -> number that is subtracted from the logits of seen classes.
        reason: why the run has no offset, or no accuracies.
        seeds: seed -> accuracies with the offset; empty if the run cannot be scored.
        reliability: of the probabilities after the offset and the temperature; empty for a run without a temperature.
    """

    run: str
    offsets: dict[Seed, float]
    reason: str | None
    seeds: dict[Seed, Balance]
    reliability: Annotated[tuple[ReliabilityBin, ...], Field(strict=False)] = ()


class BalancedScores(Settings):
    """All runs of one task on one data set, and what was selected for new images."""

    dataset: str
    task: str
    runs: Annotated[tuple[BalancedRun, ...], Field(strict=False)]
    selection: Selection | None = None

    def run(self, name: str) -> BalancedRun | None:
        """Return a run by its name, or None if there is none."""
        return next((run for run in self.runs if run.run == name), None)


def read_balanced_scores(path: Path) -> BalancedScores:
    """Read the file that `evaluate_balanced` wrote.

    Raises:
        InputError: the file does not exist or is damaged.
    """
    return parse(BalancedScores, read_sealed_json(path, RECREATE_HINT), f"{path} ({RECREATE_HINT})")
