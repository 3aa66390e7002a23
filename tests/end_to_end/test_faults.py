"""The results of `python -m benchmarks.faults` are written into its page, one table for each part."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.faults import __main__ as faults
from benchmarks.faults.workspace import Row


def table(text: str, part: str) -> list[str]:
    """Return the lines of a part's table."""
    return text.partition(f"<!-- table of {part} -->\n")[2].partition(f"<!-- end of {part} -->\n")[0].splitlines()


def test_new_results_of_a_part_replace_its_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = faults.PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(faults, "PAGE", tmp_path / "page.md")
    faults.PAGE.write_text(before, encoding="utf-8")

    for rows in ([Row("a", 1, "fine"), Row("b", 2_000, "fine")], [Row("a", 1, "fine", "lost")]):
        faults.put("stores", rows)
        text = faults.PAGE.read_text(encoding="utf-8")
        assert table(text, "stores")[2:] == [row.line().strip() for row in rows]
        assert table(text, "kills") == table(before, "kills")
    assert "| a | 1 | **wrong**: lost |" in text
