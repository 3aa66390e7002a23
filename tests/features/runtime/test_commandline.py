"""Exit statuses and last words of programs: an interrupted stage must never look to DVC like one that succeeded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from project_root import ROOT

STAGE = """
import signal, sys, time
from pathlib import Path
from features.errors import InputError
from features.formats.files import atomic_file
from stages.running import run

class Lost:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)  # Python drops what is raised here

def main(how: str, times: int = 1) -> None:
    print("started", flush=True)
    if how == "wait":
        time.sleep(30)
    if how == "lost":
        with atomic_file(Path("output")) as part:
            part.touch()
            Lost()
    if how == "wrong":
        raise InputError("grid.seeds: 1 is listed twice")
    if how == "disk":
        raise OSError(5, "Input/output error", "artifacts/a.csv")
    if how == "word":
        print("caf\u00e9", flush=True)
    if how == "bug":
        raise ZeroDivisionError

run(main)
"""


def start(folder: Path, *args: str) -> subprocess.Popen[str]:
    """Start a stage as DVC does: as a process of its own, in a folder of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", STAGE, *args],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["done"], 0, ""),
        (["wrong"], 1, "error: grid.seeds: 1 is listed twice\n"),
        (["disk"], 1, "error: artifacts/a.csv: Input/output error\n"),
        (["done", "--times", "often"], 2, "Invalid value for '--times'"),
        (["done", "--tmies", "2"], 2, "No such option: --tmies"),
        ([], 2, "Missing argument"),
    ],
)
def test_each_end_of_a_stage_has_its_status_and_message(
    args: list[str], status: int, message: str, tmp_path: Path
) -> None:
    process = start(tmp_path, *args)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert message in errors
    assert "Traceback" not in errors


def test_a_character_that_the_terminal_lacks_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    process = start(tmp_path, "word")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert output == "started\ncaf\\xe9\n"


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    process = start(tmp_path, "bug")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ZeroDivisionError" in errors


def test_an_interrupted_stage_ends_with_130_and_names_the_next_command(tmp_path: Path) -> None:
    process = start(tmp_path, "wait")
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "`dvc repro`" in errors
    assert "Traceback" not in errors


def test_a_stage_that_lost_an_interrupt_ends_with_130_before_its_output_gets_its_name(tmp_path: Path) -> None:
    process = start(tmp_path, "lost")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "`dvc repro`" in errors
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("program", "slow", "next_step"),
    [
        (["-c", "from stages.running import run\nimport torch"], "torch", "`dvc repro`"),
        (["-m", "pipeline.executor.dvc_child", "repro"], "dvc", "DVC"),
        (["-m", "pipeline", "run"], "typer", "nothing"),
    ],
)
def test_ctrl_c_while_libraries_load_prints_no_traceback(
    program: list[str], slow: str, next_step: str, tmp_path: Path
) -> None:
    """Put a module that takes 30 s to load in the place of a library."""
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
    assert next_step in errors
    assert "Traceback" not in errors


def test_a_finished_stage_prints_and_records_its_time(tmp_path: Path) -> None:
    process = start(tmp_path, "done", "--times", "2")
    _, errors = process.communicate(timeout=60)
    assert "-c done 2: done in 0:00" in errors
    (row,) = (tmp_path / "artifacts/.times.csv").read_text(encoding="utf-8").splitlines()
    command, seconds = row.rsplit(",", 1)
    assert command == "python -m stages.-c done --times 2"
    assert float(seconds) >= 0


def test_a_failed_stage_records_no_time(tmp_path: Path) -> None:
    start(tmp_path, "wrong").communicate(timeout=60)
    assert not (tmp_path / "artifacts").exists()


def test_a_time_that_cannot_be_recorded_fails_no_stage(tmp_path: Path) -> None:
    (tmp_path / "artifacts/.times.csv").mkdir(parents=True)
    process = start(tmp_path, "done")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "artifacts/.times.csv" in errors
    assert "Traceback" not in errors
