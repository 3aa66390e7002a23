"""`extract.engine: ray`: the same bytes as on one machine, whichever actor computed them and whichever died."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import contents, job, make_images, tiny_encoder

from features.errors import InputError
from features.extraction.extract import extract
from features.extraction.ray_engine import OnRay

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra `ray`")
TESTS = Path(__file__).resolve().parent
COUNTS = {"train": 40, "val": 5, "test": 21}  # 5 shards


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder of several extractions on Ray (`on_ray.py`), and what each said."""
    folder = tmp_path_factory.mktemp("ray")
    make_images(folder / "images", COUNTS)  # type: ignore[arg-type]
    command = [sys.executable, str(TESTS / "on_ray.py"), str(folder)]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),  # what the actors import `on_ray` with
        "RAY_worker_niceness": "0",  # else they wait for everything else on a busy machine
        "RAY_worker_register_timeout_seconds": "300",
    }
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900, check=False)
    if "node timed out during startup" in ended.stderr:
        pytest.skip("Ray's own processes did not start within the 30 s that it gives them: the machine is too busy")
    assert ended.returncode == 0, ended.stderr[-4000:]
    return folder, json.loads(ended.stdout.splitlines()[-1])


@needs_ray
def test_a_killed_actor_costs_its_shard_alone_and_no_byte(done: tuple[Path, dict[str, str]]) -> None:
    folder, said = done
    assert said["killed"] == ""
    assert contents(folder / "local.zarr")
    assert contents(folder / "killed.zarr") == contents(folder / "local.zarr")
    wrote = said["wrote"].split()
    assert len(wrote) == 5, "each of the five shards is written once"
    assert (folder / "dead").read_text() in wrote, "what the dead actor had finished is kept"


@needs_ray
def test_actors_that_share_a_bucket_alone_make_the_same_bytes(done: tuple[Path, dict[str, str]]) -> None:
    folder, said = done
    assert said["bucket"] == ""
    assert contents(folder / "bucket.zarr") == contents(folder / "local.zarr")
    assert "s3://nowhere/shards/none-" in said["no bucket"]


@needs_ray
def test_a_node_with_other_weights_is_refused(done: tuple[Path, dict[str, str]]) -> None:
    assert "a Ray node has other weights of tiny (" in done[1]["other weights"]


@needs_ray
def test_a_cluster_that_is_too_small_says_what_it_has(done: tuple[Path, dict[str, str]]) -> None:
    assert "has 2 CPUs, 0 GPUs, and one process needs 1 CPUs (compute.workers) and 1 GPUs" in done[1]["too small"]


def test_without_ray_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    made = job(tmp_path, make_images(tmp_path, {"train": 2}), tiny_encoder(tmp_path / "encoder"))
    with pytest.raises(InputError, match=r"pip install 'shipyard-clip\[ray\]', or set it to local"):
        extract(made, tmp_path / "a.zarr", tmp_path / "scratch", OnRay(lambda _: tiny_encoder(tmp_path), "cpu"))
