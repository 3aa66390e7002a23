"""`shipyard run --engine ray`: the bytes of a run on one machine, also when a node is lost."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from project_root import ROOT
from small_repo import PARAMS, copy_repo, lock, ran, run, write_params

from features.errors import InputError
from pipeline.executor.ray_cells import cells_that_fit

FITS = ("coop", "kgcoop")
CELLS = {f"{stage}@mine-base_to_new-{method}" for stage in ("fit", "evaluate") for method in FITS} | {"report"}
FEW: dict[str, Any] = json.loads(json.dumps(PARAMS))
FEW["grid"] |= {"methods": ["zero_shot", *FITS], "generators": [], "seeds": [1]}
FEW["methods"] |= {method: {"epochs": 1500} for method in FITS}  # so many that the node is lost before the end


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "cells"),
    [
        ([{"CPU": 4}, {"CPU": 3}], 2, 0, 3),
        ([{"CPU": 16, "GPU": 4}], 1, 0.3, 12),
        ([{"CPU": 16, "GPU": 1}, {"CPU": 64}], 1, 0.1, 10),
        ([{"CPU": 2, "GPU": 1}], 1, 0.25, 2),
    ],
)
def test_as_many_cells_run_at_a_time_as_fit_the_nodes(
    nodes: list[dict[str, float]], cpus: int, gpus: float, cells: int
) -> None:
    assert cells_that_fit(nodes, cpus, gpus) == cells


def test_a_cell_that_fits_no_node_is_an_error_with_the_settings() -> None:
    with pytest.raises(InputError, match=r"2 CPUs \(compute\.cell_cpus\).*0\.5 GPUs \(compute\.cell_gpus\).*8 CPUs"):
        cells_that_fit([{"CPU": 8}, {"CPU": 1, "GPU": 1}], 2, 0.5)


@pytest.mark.system
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra `ray`")
def test_the_cell_of_a_lost_node_is_run_again_and_no_byte_differs(
    reproduced_repo: Path, warm_path: None, tmp_path: Path
) -> None:
    repo = copy_repo(reproduced_repo, tmp_path / "repo")
    write_params(repo, FEW)
    run(repo, "dvc", "repro")
    undisturbed = lock(repo)
    for stage in CELLS:
        for output in undisturbed[stage]["outs"]:
            path = repo / output["path"]
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(repo / ".dvc/cache")

    helper = ROOT / "tests/helpers/cells_on_ray.py"
    env = {**os.environ, "PYTHONPATH": str(repo), "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    done = subprocess.run(
        [sys.executable, str(helper), str(repo), *FITS], cwd=repo, env=env, capture_output=True, text=True, check=False
    )
    if "timed out during startup" in done.stderr:
        pytest.skip("Ray's own processes did not start within the 30 s that it gives them: the machine is too busy")
    assert done.returncode == 0, done.stderr[-4000:]
    assert ran(done.stdout) >= CELLS
    assert "was lost over `python -m stages.fit" in done.stderr
    assert lock(repo) == undisturbed
    assert ran(run(repo, "dvc", "repro")) == set()
