"""The library of the fault benchmark that lets a program fail to open a file."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.faults.failing_open import LIBRARY, preload

CODE = """
import pathlib
for name in ("read", "written"):
    pathlib.Path(name).open("r" if name == "read" else "w").close()
"""


def run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "FAULT_ROOT": f"{folder}/", "FAULT_LOG": str(folder / "log"), **environment}
    return subprocess.run(
        [sys.executable, "-c", CODE], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(LIBRARY, "")
    preload(tmp_path)
    if not os.environ[LIBRARY]:
        pytest.skip("no C compiler")
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "read").touch()
    return folder


def test_every_file_that_is_opened_is_listed(folder: Path) -> None:
    assert run(folder).returncode == 0
    assert (folder / "log").read_text(encoding="utf-8").splitlines() == [f"r {folder}/read", f"w {folder}/written"]


@pytest.mark.parametrize(
    ("name", "error", "fails"),
    [("read", errno.EIO, True), ("written", errno.ENOSPC, True), ("read", errno.ENOSPC, False)],
)
def test_the_named_file_alone_fails(name: str, error: int, fails: bool, folder: Path) -> None:
    done = run(folder, FAULT_PATH=f"{folder}/{name}", FAULT_ERRNO=str(error))
    assert done.returncode == fails
    assert (os.strerror(error) in done.stderr) == fails
    assert (folder / "log").exists() == fails


def test_the_first_files_that_are_written_are_slow(folder: Path) -> None:
    began = time.monotonic()
    assert run(folder, FAULT_DELAY="1500").returncode == 0
    assert time.monotonic() - began > 1.5
