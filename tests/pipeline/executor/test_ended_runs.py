"""A run whose first process is ended alone leaves no process behind, and the next run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from small_repo import make_repo

SECONDS = 300  # for a process to start or to end on a busy machine

pytestmark = pytest.mark.system


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_dvc_and_its_stage_end_with_the_run(ended_by: signal.Signals, tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    env = {**os.environ, "PYTHONPATH": str(repo), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pipeline", "run"]
    with subprocess.Popen(command, cwd=repo, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        below = _wait_for_a_stage(process.pid, repo)
        process.send_signal(ended_by)
        _, alive = psutil.wait_procs(below, timeout=SECONDS)
        assert alive == []
        process.communicate(timeout=SECONDS)
    assert process.returncode == (-ended_by if ended_by == signal.SIGKILL else 130)

    command = [sys.executable, "-m", "pipeline.executor.dvc_child", "repro", "code"]
    code = "from pipeline.executor.repository import exclusive_run\nwith exclusive_run('x'): pass"
    for words in ([sys.executable, "-c", code], command):
        done = subprocess.run(words, cwd=repo, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def _wait_for_a_stage(pid: int, repo: Path) -> list[psutil.Process]:
    """Wait until the first stage of a run has ended and the second begins, and return all processes below `pid`."""
    limit = time.monotonic() + SECONDS
    while time.monotonic() < limit:
        if (repo / "artifacts/.times.csv").exists():
            return psutil.Process(pid).children(recursive=True)
        time.sleep(0.05)
    raise AssertionError("no stage has ended")
