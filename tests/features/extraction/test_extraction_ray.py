"""`extract.engine: ray`: the same bytes as on one machine, whichever actor computes a shard or dies."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from pictures import contents, job, make_images, tiny_encoder
from project_root import ROOT

from features.errors import InputError
from features.extraction.extract import extract
from features.extraction.ray_engine import OnRay

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra `ray`")
HELPERS = ROOT / "tests" / "helpers"
COUNTS = {"train": 40, "val": 5, "test": 21}  # 5 shards


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Run several extractions on Ray (`on_ray.py`); return their folder and what each printed."""
    folder = tmp_path_factory.mktemp("ray")
    make_images(folder / "images", COUNTS)  # type: ignore[arg-type]
    command = [sys.executable, str(HELPERS / "on_ray.py"), str(folder)]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HELPERS), str(HELPERS.parents[1])]),  # the actors import `on_ray`
        "RAY_worker_niceness": "0",  # on a busy machine they would wait for everything else
        "RAY_worker_register_timeout_seconds": "300",
    }
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900, check=False)
    if "timed out during startup" in ended.stderr:
        pytest.skip("Ray's own processes did not start within the 30 s that it gives them: the machine is too busy")
    assert ended.returncode == 0, ended.stderr[-4000:]
    return folder, json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.system
@needs_ray
def test_a_killed_actor_loses_only_its_shard_and_changes_no_byte(results: tuple[Path, dict[str, str]]) -> None:
    folder, output = results
    assert output["killed"] == ""
    assert contents(folder / "local.zarr")
    assert contents(folder / "killed.zarr") == contents(folder / "local.zarr")
    writers = output["wrote"].split()
    assert len(writers) == 5, "each of the five shards is written once"
    assert (folder / "dead").read_text() in writers, "the finished shard of the dead actor is kept"


@pytest.mark.system
@needs_ray
def test_actors_that_share_only_a_bucket_give_the_same_bytes(results: tuple[Path, dict[str, str]]) -> None:
    folder, output = results
    assert output["bucket"] == ""
    assert contents(folder / "bucket.zarr") == contents(folder / "local.zarr")
    assert "s3://nowhere/shards/none-" in output["no bucket"]


@pytest.mark.system
@needs_ray
def test_a_node_with_other_weights_is_an_error(results: tuple[Path, dict[str, str]]) -> None:
    assert "weights of tiny (" in results[1]["other weights"]


@pytest.mark.system
@needs_ray
def test_a_cluster_that_is_too_small_is_an_error_that_lists_its_resources(results: tuple[Path, dict[str, str]]) -> None:
    assert re.search(r"2 CPUs, 0 GPUs.*1 CPUs \(compute\.workers\) and 1 GPUs", results[1]["too small"])


def test_without_ray_the_error_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    extraction = job(tmp_path, make_images(tmp_path, {"train": 2}), tiny_encoder(tmp_path / "encoder"))
    with pytest.raises(InputError, match=r"pip install -e '\.\[ray\]'.*local"):
        extract(extraction, tmp_path / "a.zarr", tmp_path / "scratch", OnRay(lambda _: tiny_encoder(tmp_path), "cpu"))


def test_a_cluster_that_does_not_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup")  # as Ray itself does

    stand_in = types.SimpleNamespace(is_initialized=lambda: False, init=init)
    monkeypatch.setitem(sys.modules, "ray", stand_in)  # type: ignore[arg-type]
    extraction = job(tmp_path, make_images(tmp_path, {"train": 2}), tiny_encoder(tmp_path / "encoder"))
    with pytest.raises(InputError, match=r"RAY_ADDRESS.*timed out during startup"):
        extract(extraction, tmp_path / "a.zarr", tmp_path / "scratch", OnRay(lambda _: tiny_encoder(tmp_path), "cpu"))
