"""One run at a time, and what a killed run leaves in DVC's own files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from project_root import ROOT

from features.errors import InputError
from pipeline.executor import repository
from pipeline.executor.repository import LAST_GOOD, LOCK, PATH_LOCKS, exclusive_run

WHOLE = "schema: '2.0'\nstages:\n  code:\n    cmd: python -m stages.code\n"


@pytest.fixture(autouse=True)
def _repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    LOCK.write_text(WHOLE, encoding="utf-8")


def run() -> None:
    with exclusive_run("shipyard run"):
        pass


def test_a_second_run_is_refused_and_names_the_first() -> None:
    code = "from pipeline.executor.repository import exclusive_run\nwith exclusive_run('x'): pass"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with exclusive_run("shipyard run twemoji"):
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert "InputError" in done.stderr
    assert "shipyard run twemoji" in done.stderr
    assert str(os.getpid()) in done.stderr
    run()


BROKEN = [
    b"",
    b"\0\0\0",
    WHOLE[:20].encode(),
    b"stages: [",
    b"\xff\xfe",
    WHOLE.replace("2.0", "1.0").encode(),
    *(f"{WHOLE}    {part}\n".encode() for part in ("deps: 3", "outs: [1]", "outs: [{path: [1]}]", "params: 4")),
    f"{WHOLE}    outs: [{{path: a, md5: 3}}]\n".encode(),
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_lock_is_restored_from_its_last_good_copy(broken: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    run()
    LOCK.write_bytes(broken)
    run()
    assert LOCK.read_text(encoding="utf-8") == WHOLE
    assert str(LOCK) in capfd.readouterr().err


def test_a_broken_lock_file_without_a_copy_is_named() -> None:
    LOCK.write_bytes(b"")
    with pytest.raises(InputError, match=r"dvc\.lock"):
        run()
    assert LOCK.read_bytes() == b""


def test_conflict_markers_are_not_resolved_by_themselves() -> None:
    run()
    merged = f"<<<<<<< HEAD\n{WHOLE}=======\n{WHOLE}>>>>>>> other\n"
    LOCK.write_text(merged, encoding="utf-8")
    with pytest.raises(InputError, match="git checkout --ours"):
        run()
    assert LOCK.read_text(encoding="utf-8") == merged
    assert LAST_GOOD.read_text(encoding="utf-8") == WHOLE


@pytest.mark.parametrize(
    "text", ["", "\0\0", "[]", '{"read": 1}', '{"write": {"a": {"pid": 1e99}}}', '{"read": {"a": 1}}']
)
def test_unreadable_path_locks_are_removed(text: str) -> None:
    PATH_LOCKS.write_text(text, encoding="utf-8")
    run()
    assert not PATH_LOCKS.exists() or json.loads(PATH_LOCKS.read_text(encoding="utf-8")) == {"read": {}, "write": {}}


def test_path_locks_that_are_being_written_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = json.dumps({"read": {"a": []}, "write": {}})
    PATH_LOCKS.write_text(whole[:5], encoding="utf-8")
    monkeypatch.setattr(
        "pipeline.executor.repository.time.sleep", lambda _: PATH_LOCKS.write_text(whole, encoding="utf-8")
    )
    run()
    assert PATH_LOCKS.read_text(encoding="utf-8") == whole


@pytest.mark.parametrize("aid", [LAST_GOOD, repository.PARSED, repository.RUN_OWNER])
def test_an_aid_that_cannot_be_written_stops_no_run(aid: Path) -> None:
    (aid / "kept").mkdir(parents=True)
    run()
    assert (aid / "kept").is_dir()


def test_locks_of_a_process_that_is_no_dvc_of_this_repository_are_dropped() -> None:
    mine = {"pid": os.getpid(), "cmd": "dvc repro"}
    PATH_LOCKS.write_text(json.dumps({"read": {"a": [mine]}, "write": {"b": mine}}), encoding="utf-8")
    run()
    assert json.loads(PATH_LOCKS.read_text(encoding="utf-8")) == {"read": {}, "write": {}}


def test_a_run_waits_for_a_dvc_at_work_here_and_names_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "dvc"  # looks like `dvc repro` in this repository
    program.write_text("import time; time.sleep(3)", encoding="utf-8")
    with subprocess.Popen([sys.executable, str(program), "repro"]) as process:
        live = {"pid": process.pid, "cmd": "dvc repro"}
        PATH_LOCKS.write_text(json.dumps({"read": {"a": [live]}, "write": {"b": live}}), encoding="utf-8")
        with exclusive_run("shipyard run"):
            assert process.poll() is not None
    assert json.loads(PATH_LOCKS.read_text(encoding="utf-8")) == {"read": {}, "write": {}}
    assert f"`dvc repro` (process {live['pid']})" in capfd.readouterr().err


def test_a_run_outside_of_a_dvc_repository_is_left_to_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run()
    assert not Path(".dvc").exists()


def test_a_copy_is_kept_of_what_a_run_wrote() -> None:
    with exclusive_run("shipyard run"):
        LOCK.write_text(WHOLE + "  report:\n    cmd: x\n", encoding="utf-8")
    assert LAST_GOOD.read_bytes() == LOCK.read_bytes()
    assert repository.lock_file_problem() is None
