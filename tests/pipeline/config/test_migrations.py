"""Artifacts of an older version are reported with the command that writes them again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from features.errors import InputError
from pipeline.artifacts.paths import EncoderPaths
from pipeline.artifacts.scores import read_scores
from pipeline.artifacts.selection import read_selection

OLD_SCORES = {"dataset": "d", "seeds": [{"seed": 1, "judgements": {"base": {"accuracy": 50.0}}}]}


def test_scores_of_an_older_version_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(OLD_SCORES), encoding="utf-8")
    with pytest.raises(InputError, match=r"scores\.json.*older.*shipyard run"):
        read_scores(path)


def test_a_selection_in_the_folder_of_an_older_version_is_reported(tmp_path: Path) -> None:
    path = EncoderPaths(tmp_path / "chosen").cell("mine", "mine").selection  # an encoder may have any name
    older = tmp_path / "chosen/chosen/mine/mine.json"
    older.parent.mkdir(parents=True)
    older.write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="shipyard run") as caught:
        read_selection(path)
    assert str(older) in str(caught.value)
    assert "older" in str(caught.value)


def test_a_missing_selection_is_not_taken_for_an_old_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shipyard run") as caught:
        read_selection(EncoderPaths(tmp_path / "encoder").cell("mine", "mine").selection)
    assert "older" not in str(caught.value)
