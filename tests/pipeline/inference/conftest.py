"""The fixture that tests of predictions share."""

from __future__ import annotations

from pathlib import Path

import pytest
import trained


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task with a fitted run and photographs, in the current folder."""
    trained.project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
