"""The ends of a program: an interrupted stage must never look to DVC like one that succeeded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STAGE = """
import sys, time
from features.errors import InputError
from stages.running import run

def main(how: str, times: int = 1) -> None:
    print("started", flush=True)
    if how == "wait":
        time.sleep(30)
    if how == "wrong":
        raise InputError("two of a kind: mend it so")
    if how == "bug":
        raise ZeroDivisionError

run(main)
"""


def start(folder: Path, *args: str) -> subprocess.Popen[str]:
    """A stage as DVC starts one: a process of its own, in a folder of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", STAGE, *args],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (["done"], 0, ""),
        (["wrong"], 1, "error: two of a kind: mend it so\n"),
        (["done", "--times", "often"], 2, "Invalid value for '--times'"),
        (["done", "--tmies", "2"], 2, "No such option: --tmies"),
        ([], 2, "Missing argument"),
    ],
)
def test_status_and_words(args: list[str], status: int, words: str, tmp_path: Path) -> None:
    process = start(tmp_path, *args)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert words in errors
    assert "Traceback" not in errors


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    process = start(tmp_path, "bug")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ZeroDivisionError" in errors


def test_interrupted_is_not_done(tmp_path: Path) -> None:
    process = start(tmp_path, "wait")
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "`dvc repro` goes on from here" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("program", "slow", "words"),
    [
        (["-c", "from stages.running import run\nimport torch"], "torch", "`dvc repro` goes on from here"),
        (["-m", "pipeline.executor.dvc_child", "repro"], "dvc", "DVC was not started"),
        (["-m", "pipeline", "run"], "typer", "nothing was started"),
    ],
)
def test_interrupted_while_libraries_load(program: list[str], slow: str, words: str, tmp_path: Path) -> None:
    """A library stands in the way that takes as long to load as one likes."""
    (tmp_path / f"{slow}.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(30)", encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, *program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith("interrupted: ")
    assert words in errors
    assert "Traceback" not in errors


def test_a_stage_that_is_done_says_how_long_it_took_and_keeps_it(tmp_path: Path) -> None:
    process = start(tmp_path, "done", "--times", "2")
    _, errors = process.communicate(timeout=60)
    assert "-c done 2: done in 0:00" in errors
    (row,) = (tmp_path / "artifacts/.times.csv").read_text(encoding="utf-8").splitlines()
    command, seconds = row.rsplit(",", 1)
    assert command == "python -m stages.-c done --times 2"
    assert float(seconds) >= 0


def test_a_stage_that_failed_keeps_no_time(tmp_path: Path) -> None:
    start(tmp_path, "wrong").communicate(timeout=60)
    assert not (tmp_path / "artifacts").exists()
