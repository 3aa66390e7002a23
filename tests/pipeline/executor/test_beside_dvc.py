"""A cell whose files a `dvc repro` holds, begun beside the run, waits for it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_repo import lock, ran, run

SECONDS = 300  # for DVC to start on a busy machine
PIPELINE = """
stages:
  slow:
    cmd: "echo begun > begun; while test ! -e go; do sleep 0.1; done; cp zero one"
    deps: [zero]
    outs: [one]
  after:
    cmd: cp one two
    deps: [one]
    outs: [two]
"""

pytestmark = pytest.mark.system


def test_a_run_waits_for_dvc_repro_and_takes_over_what_it_made(tmp_path: Path) -> None:
    run(tmp_path, "git", "init", "-q")
    run(tmp_path, "dvc", "init", "-q")
    (tmp_path / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    (tmp_path / "zero").touch()
    (tmp_path / "params.yaml").write_text("{}", encoding="utf-8")
    cells = [sys.executable, "-m", "pipeline.executor.cells"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    with subprocess.Popen(["dvc", "repro", "slow"], cwd=tmp_path) as first:
        _wait_for(tmp_path / "begun")
        with (tmp_path / "printed").open("w") as file:
            second = subprocess.Popen(cells, cwd=tmp_path, env=env, stdout=file, stderr=file)
        with second:
            while "waiting" not in (tmp_path / "printed").read_text(encoding="utf-8"):
                assert second.poll() is None
                time.sleep(0.1)
            (tmp_path / "go").touch()

    printed = (tmp_path / "printed").read_text(encoding="utf-8")
    assert (first.returncode, second.returncode) == (0, 0), printed
    assert f"(process {first.pid})" in printed
    assert ran(printed) == {"after"}
    assert lock(tmp_path).keys() == {"slow", "after"}


def _wait_for(path: Path) -> None:
    limit = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < limit
        time.sleep(0.05)


@pytest.mark.parametrize("name", [".dvc/tmp/rwlock", ".dvc/tmp/lock", ".dvcignore", "dvc.lock", ".dvc/config.local"])
def test_a_file_of_dvc_that_cannot_be_opened_is_named_without_a_traceback(name: str, tmp_path: Path) -> None:
    run(tmp_path, "git", "init", "-q")
    run(tmp_path, "dvc", "init", "-q")
    (tmp_path / "dvc.yaml").write_text("stages: {one: {cmd: touch one, outs: [one]}}", encoding="utf-8")
    (tmp_path / "params.yaml").write_text("{}", encoding="utf-8")
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).mkdir()
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.executor.cells"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert Path(name).name in done.stderr
    assert "Traceback" not in done.stderr
