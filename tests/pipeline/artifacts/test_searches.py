"""The file of what a fit selected on validation images."""

from __future__ import annotations

from pathlib import Path

from features.formats.files import write_mark
from pipeline.artifacts.searches import edge_warnings, read_searches, write_searches
from pipeline.training.log import Search

FOUND = [
    (1, Search("alpha", 3.0, 0.1, 3.0)),
    (1, Search("beta", 2.5, 0.1, 7.0)),
    (2, Search("alpha", 3.0, 0.1, 3.0)),
    (3, Search("alpha", 0.1, 0.1, 3.0)),
]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_searches(tmp_path / "searches.csv", FOUND)
    write_mark(tmp_path)
    assert read_searches(tmp_path / "searches.csv") == FOUND
    assert read_searches(tmp_path / "no.csv") == []


def test_each_end_of_a_range_is_one_sentence_with_its_seeds() -> None:
    highest, lowest = edge_warnings(FOUND)
    assert "alpha" in highest
    assert "0.1 to 3" in highest
    assert "seed 1, 2" in highest
    assert "seed 3" in lowest
