"""`shipyard run --jobs N`: the same bytes as one cell at a time, and a failed cell stops only its dependents."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from pictures import contents
from small_repo import PARAMS, copy_repo, lock, ran, run, write_params

from features.formats.files import PART_SUFFIX, part_path

FEW: dict[str, Any] = json.loads(json.dumps(PARAMS))
FEW["grid"] |= {"methods": ["zero_shot", "coop", "kgcoop"], "generators": [], "seeds": [1]}
FEW["methods"]["kgcoop"] = {"epochs": 2}
PARALLEL = ("run", "--jobs", "4")
COOP, KGCOOP = "fit@mine-base_to_new-coop", "fit@mine-base_to_new-kgcoop"


CELLS = {f"{stage}@mine-base_to_new-{name}" for stage in ("fit", "evaluate") for name in FEW["grid"]["methods"]}


@pytest.fixture(scope="module")
def repo(reproduced_repo: Path, warm_path: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small repository after one run with several jobs; each test restores what it changes.

    `one_by_one.lock` is its dvc.lock after `dvc repro`, and `jobs.txt` what the run with several jobs printed.
    """
    made = copy_repo(reproduced_repo, tmp_path_factory.mktemp("desk") / "repo")
    write_params(made, FEW)
    run(made, "dvc", "repro")
    (made / "dvc.lock").rename(made / "one_by_one.lock")
    forget_cells(made)
    (made / "jobs.txt").write_text(run(made, "shipyard", *PARALLEL), encoding="utf-8")
    return made


def forget_cells(repo: Path) -> None:
    """Remove the outputs of all cells and of the report, and all that DVC knows of their runs."""
    locked = yaml.safe_load((repo / "one_by_one.lock").read_text(encoding="utf-8"))
    for stage in (*CELLS, "report"):
        for output in locked["stages"].pop(stage)["outs"]:
            path = repo / output["path"]
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (repo / "dvc.lock").write_text(yaml.safe_dump(locked), encoding="utf-8")
    shutil.rmtree(repo / ".dvc/cache/runs")  # from which DVC would check out the outputs


@contextmanager
def changed(repo: Path, **methods: dict[str, Any]) -> Iterator[None]:
    """Change settings of methods, and afterwards restore the settings and their results."""
    params = json.loads(json.dumps(FEW))
    for name, settings in methods.items():
        params["methods"][name] |= settings
    write_params(repo, params)
    try:
        yield
    finally:
        write_params(repo, FEW)
        run(repo, "dvc", "repro")


def epochs(repo: Path, cell: str) -> int:
    """Return the number of epochs of the last completed run of a cell, by dvc.lock."""
    return int(lock(repo)[cell]["params"]["params.yaml"][f"methods.{cell.rpartition('-')[2]}"]["epochs"])


def test_the_commands_of_the_page_give_the_bytes_of_one_cell_at_a_time(repo: Path) -> None:
    printed = (repo / "jobs.txt").read_text(encoding="utf-8")
    assert not [word for word in ("LockError", "acquire lock", "is busy", "failed") if word in printed]
    assert ran(printed) == {*CELLS, "report"}

    one_by_one = yaml.safe_load((repo / "one_by_one.lock").read_text(encoding="utf-8"))["stages"]
    assert lock(repo) == one_by_one
    assert ran(run(repo, "dvc", "repro")) == set()
    for cell in (COOP, KGCOOP):
        run(repo, "dvc", "--wait-for-lock", "repro", "--single-item", cell)


def test_a_failed_cell_is_named_and_only_its_dependents_are_skipped(repo: Path) -> None:
    before = contents(repo / "artifacts/tiny/fitted/mine/base_to_new/coop")
    with changed(repo, coop={"init": "a photo of a very big"}, kgcoop={"epochs": 3}):
        output = run(repo, "shipyard", *PARALLEL, check=False)
        assert re.search(rf"^error: .*{COOP}", output, re.MULTILINE)
        assert re.search(r"'a photo of a very big'.*\b6 tokens", output), "the error of the cell itself"
        assert ran(output) == {COOP, KGCOOP, "evaluate@mine-base_to_new-kgcoop"}
        assert not list((repo / "artifacts").rglob(f".*{PART_SUFFIX}"))
        assert epochs(repo, KGCOOP) == 3, "the other cell is complete"
    assert contents(repo / "artifacts/tiny/fitted/mine/base_to_new/coop") == before


def test_ctrl_c_ends_the_running_cells_and_prints_how_to_continue(repo: Path) -> None:
    fitted = repo / "artifacts/tiny/fitted/mine/base_to_new"
    with changed(repo, coop={"epochs": 10**6}, kgcoop={"epochs": 10**6}):
        command = [sys.executable, "-m", "pipeline", *PARALLEL]
        env = {**os.environ, "PYTHONPATH": str(repo), "OMP_NUM_THREADS": "1"}
        child = subprocess.Popen(command, cwd=repo, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            limit = time.monotonic() + 120  # for both cells to begin, on a busy machine
            while not all(part_path(fitted / name).exists() for name in ("coop", "kgcoop")):
                assert child.poll() is None
                assert time.monotonic() < limit
                time.sleep(0.1)
            os.killpg(child.pid, signal.SIGINT)
            _, output = child.communicate(timeout=60)
        finally:
            child.kill()
        assert child.returncode == 130
        assert "interrupted: " in output
        assert "continue" in output
        assert "Traceback" not in output
        assert not list((repo / "artifacts").rglob(f".*{PART_SUFFIX}"))
        assert epochs(repo, COOP) == 2
    assert ran(run(repo, "dvc", "repro")) == set()


def test_a_run_that_forks_its_stages_gives_the_bytes_of_new_processes(repo: Path) -> None:
    """Start `shipyard run` without the tests' own server, in whose place a run's own one would stand."""
    before = lock(repo)
    for cell in (COOP, KGCOOP):
        shutil.rmtree(repo / "artifacts/tiny/fitted/mine/base_to_new" / cell.rpartition("-")[2])
    shutil.rmtree(repo / ".dvc/cache")
    env = {**os.environ, "PYTHONPATH": str(repo), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pipeline", *PARALLEL]
    done = subprocess.run(command, cwd=repo, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {COOP, KGCOOP} <= ran(done.stdout)
    assert lock(repo) == before
