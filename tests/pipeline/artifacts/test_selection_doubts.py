"""A selection that says little says so."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.artifacts.selection import Candidate, Selection, selection_text
from pipeline.artifacts.selection_doubts import doubts, share_best


def selection(*scores: tuple[str, float, float, float], chance: float = 10.0) -> Selection:
    runs = tuple(Candidate(run=run, score=score, low=low, high=high) for run, score, low, high in scores)
    return Selection(dataset="d", task="d", run=scores[0][0], seed=1, images=9, confidence=50, chance=chance, runs=runs)


def test_a_clear_selection_has_no_doubts() -> None:
    assert list(doubts(selection(("coop", 60, 50, 70), ("zero_shot", 40, 30, 50)))) == []


def test_ties_are_named() -> None:
    tied = selection(("zero_shot", 60, 50, 70), ("coop", 60, 40, 70), ("clap", 20, 10, 30))
    [line] = doubts(tied)
    assert "coop" in line
    assert "clap" not in line
    assert line in selection_text(tied)


@pytest.mark.parametrize("score", [0.0, 10.0])
def test_no_run_above_chance_is_said(score: float) -> None:
    lines = list(doubts(selection(("zero_shot", score, score, score), ("coop", score, score, score))))
    assert [line for line in lines if "10.0" in line]
    assert len(lines) == 3, "a tie, at chance, and no interval"


def test_an_interval_that_cannot_vary_is_said() -> None:
    assert len(list(doubts(selection(("zero_shot", 40, 40, 40), ("coop", 20, 10, 30))))) == 1


def test_only_samples_in_which_a_run_is_strictly_better_count() -> None:
    assert share_best(np.array([[3.0, 1], [2, 2], [0, 1], [5, 4]]), 0) == 50
    assert share_best(np.zeros((8, 3)), 0) == 0
    assert share_best(np.zeros((8, 1)), 0) == 100
