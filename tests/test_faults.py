"""The page of faults says what the program found, part by part."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.faults import __main__ as faults
from benchmarks.faults.workspace import Row


def table(text: str, part: str) -> list[str]:
    """The lines of a part's table."""
    return text.partition(f"<!-- table of {part} -->\n")[2].partition(f"<!-- end of {part} -->\n")[0].splitlines()


def test_a_part_done_again_takes_the_place_of_what_it_found_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = faults.PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(faults, "PAGE", tmp_path / "page.md")
    faults.PAGE.write_text(before, encoding="utf-8")
    for found in ([Row("a", 1, "fine"), Row("b", 2_000, "fine")], [Row("a", 1, "fine", "lost")]):
        faults.put("stores", found)
        text = faults.PAGE.read_text(encoding="utf-8")
        assert table(text, "stores")[2:] == [row.line().strip() for row in found]
        assert table(text, "kills") == table(before, "kills")
    assert "| a | 1 | **wrong**: lost |" in text
