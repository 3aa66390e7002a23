"""Two people and a remote: what one has computed, the other has, without the images and without the encoder."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
from asyncio import new_event_loop
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from loopback_s3 import s3_server
from small_repo import PARAMS, lock, make_repo, ran, run, warm_path, write_params

CELL = "mine-base_to_new"
SMALL: dict[str, Any] = {
    **PARAMS,
    "grid": {
        **PARAMS["grid"],
        "methods": ["zero_shot", "clip_adapter"],
        "synthetic_methods": ["taskres"],
        "seeds": [1],
    },
    "methods": {"zero_shot": {}, "clip_adapter": {"epochs": 2}, "taskres": {"epochs": 2}},
}


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Clone A, which has the images and the encoder and has run everything; neither is in git."""
    with warm_path():
        made = make_repo(tmp_path_factory.mktemp("a") / "repo", SMALL)
        with (made / ".gitignore").open("a", encoding="utf-8") as file:
            file.write("/encoder/\n")
        run(made, "dvc", "repro")
        commit(made)
        yield made


def commit(repo: Path) -> None:
    run(repo, "git", "add", "--all")
    run(repo, "git", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "Run")


@contextmanager
def folder_remote(place: Path, _: pytest.MonkeyPatch) -> Iterator[str]:
    yield str(place / "store")


@contextmanager
def s3_remote(_: Path, environment: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_server() as settings:
        for name, value in settings.items():
            environment.setenv(name, value)
        yield "s3://team/shipyard"


@contextmanager
def ssh_remote(place: Path, environment: pytest.MonkeyPatch) -> Iterator[str]:
    import asyncssh  # noqa: PLC0415 (likewise)

    environment.setenv("HOME", str(place))
    (place / ".ssh").mkdir(mode=0o700)
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(place / ".ssh/id_ed25519")
    known = asyncssh.import_authorized_keys(key.export_public_key().decode())
    loop = new_event_loop()
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    listening = asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[host_key], authorized_client_keys=known, sftp_factory=True
    )
    server = loop.run_until_complete(listening)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"ssh://someone@127.0.0.1:{server.get_port()}{place}/store"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.run_until_complete(server.wait_closed())
        loop.close()


REMOTES = {"folder": folder_remote, "s3": s3_remote, "ssh": ssh_remote}


@pytest.mark.parametrize("kind", REMOTES)
def test_a_colleague_pulls_and_has_nothing_to_run(
    origin: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with REMOTES[kind](tmp_path, monkeypatch) as url:
        run(origin, "dvc", "remote", "add", "--force", "--default", "team", url)
        run(origin, "dvc", "push")
        colleague = clone(origin, tmp_path / "b")
        run(colleague, "dvc", "pull")
    assert not (colleague / "data").exists()
    assert not (colleague / "encoder").exists()
    assert ran(run(colleague, "dvc", "repro")) == set()
    for file in ("features/mine.zarr/meta.json", "report/results.csv"):
        assert (colleague / "artifacts/tiny" / file).read_bytes() == (origin / "artifacts/tiny" / file).read_bytes()


def clone(origin: Path, place: Path) -> Path:
    run(origin, "git", "clone", "-q", str(origin), str(place))
    (place / ".dvc/config").write_bytes((origin / ".dvc/config").read_bytes())
    return place


@pytest.fixture(scope="module")
def colleague(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clone B, which has pulled from a folder."""
    place = tmp_path_factory.mktemp("b")
    run(origin, "dvc", "remote", "add", "--force", "--default", "team", str(place / "store"))
    run(origin, "dvc", "push")
    made = clone(origin, place / "repo")
    run(made, "dvc", "pull")
    return made


def changed(block: str, values: dict[str, object]) -> dict[str, Any]:
    """The parameters with other values in one block, named by a dotted key."""
    params: dict[str, Any] = json.loads(json.dumps(SMALL))
    place = params
    for name in block.split("."):
        place = place[name]
    place.update(values)
    return params


def test_a_methods_parameter_reruns_that_method_and_the_other_clone_gets_its_runs(
    origin: Path, colleague: Path
) -> None:
    params = changed("methods.clip_adapter", {"ratio": 0.5})
    write_params(colleague, params)
    method = {f"fit@{CELL}-clip_adapter", f"evaluate@{CELL}-clip_adapter", "report"}
    assert ran(run(colleague, "dvc", "repro")) == method
    run(colleague, "dvc", "push", "--run-cache")

    write_params(origin, params)
    try:
        run(origin, "dvc", "pull", "--run-cache", "--allow-missing")
        assert ran(run(origin, "dvc", "repro", "--pull")) == set(), "the run cache holds what the colleague ran"
        locked = [yaml.safe_load((repo / "dvc.lock").read_text("utf-8")) for repo in (origin, colleague)]
        assert locked[0] == locked[1]
    finally:
        write_params(origin, SMALL)
        write_params(colleague, SMALL)


def test_a_generators_parameter_runs_no_extraction(colleague: Path) -> None:
    run(colleague, "git", "checkout", "-q", "dvc.lock")
    run(colleague, "dvc", "checkout")
    write_params(colleague, changed("generators.ship", {"epochs": 3}))
    synthetic = {f"fit_synthetic@{CELL}-ship-taskres", f"evaluate_synthetic@{CELL}-ship-taskres"}
    assert ran(run(colleague, "dvc", "repro")) == {
        f"train_generator@{CELL}-ship",
        f"synthesize@{CELL}-ship",
        f"evaluate_generator@{CELL}-ship",
        f"visualize_features@{CELL}-ship",
        *synthetic,
        "report",
    }


def test_two_people_may_share_one_cache_whose_files_are_links(origin: Path, tmp_path: Path) -> None:
    cache = origin / ".dvc/cache"
    made = clone(origin, tmp_path / "repo")
    run(made, "dvc", "cache", "dir", "--local", str(cache))
    run(made, "dvc", "config", "--local", "cache.shared", "group")
    run(made, "dvc", "config", "--local", "cache.type", "hardlink")
    run(made, "dvc", "checkout")
    assert (made / "artifacts/tiny/features/mine.zarr/meta.json").stat().st_nlink > 1
    write_params(made, changed("methods.clip_adapter", {"ratio": 0.4}))
    assert f"fit@{CELL}-clip_adapter" in ran(run(made, "dvc", "repro"))
    files = [file for file in (cache / "files/md5").glob("??/*") if file.is_file()]
    assert files
    for file in files:
        digest = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
        assert digest == file.parent.name + file.name.removesuffix(".dir"), "a stage wrote into the cache"
    assert ran(run(origin, "dvc", "repro")) == set()


def test_finished_shards_may_wait_in_a_bucket(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, extract = lock(origin), ("dvc", "repro", "--force", "--single-item", "extract@mine")
    with s3_remote(tmp_path, monkeypatch):
        try:
            write_params(origin, changed("compute", {"shards": "s3://nowhere/shards"}))
            assert "bucket does not exist" in run(origin, *extract, check=False)
            write_params(origin, changed("compute", {"shards": "s3://team/shards"}))
            assert ran(run(origin, *extract)) == {"extract@mine"}
        finally:
            write_params(origin, SMALL)
    assert lock(origin) == before


def test_imported_features_go_through_the_pipeline_without_images(origin: Path, tmp_path: Path) -> None:
    for name in ("classes", "draws", "features", "pipeline", "stages", "assets"):
        shutil.copytree(origin / name, tmp_path / name)
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(origin / name, tmp_path / name)
    tower = "artifacts/tiny/text_tower.safetensors"
    (tmp_path / tower).parent.mkdir(parents=True)
    shutil.copy(origin / tower, tmp_path / tower)
    rng = np.random.default_rng(0)
    labels = np.repeat(["cat", "sea horse", "kite", "drum"], 6)
    splits = np.tile(["train", "train", "train", "val", "test", "test"], 4)
    np.savez(tmp_path / "lab.npz", features=rng.normal(size=(24, 16)).astype(np.float16), labels=labels, splits=splits)
    params = {**SMALL, "grid": {**SMALL["grid"], "datasets": ["lab"], "generators": [], "synthetic_methods": []}}
    params["data"] = {"root": "data", "sets": {"lab": {"reader": "imported"}}}
    write_params(tmp_path, params)
    run(tmp_path, "git", "init", "-q")
    run(tmp_path, "dvc", "init", "-q")

    command = ["python", "-m", "pipeline.cli.app", "features", "import", "lab.npz", "lab", "--encoder", "tiny"]
    asked = run(tmp_path, *command, check=False)
    assert "If you know that the very weights" in asked
    other = run(tmp_path, *command, "--weights-sha256", "0" * 64, check=False)
    assert "a text of one encoder says nothing of an image of another" in other
    (sha,) = re.findall(r"--weights-sha256 ([0-9a-f]{64})", asked)
    assert "dvc commit --force index@lab extract@lab" in run(tmp_path, *command, "--weights-sha256", sha)

    run(tmp_path, "dvc", "commit", "--force", "index@lab", "extract@lab", "text_tower")
    scored = {f"{stage}@lab-base_to_new-{name}" for stage in ("fit", "evaluate") for name in SMALL["methods"]}
    assert ran(run(tmp_path, "dvc", "repro")) >= {name for name in scored if "taskres" not in name}
    assert ran(run(tmp_path, "dvc", "repro")) == set()
    assert "lab" in (tmp_path / "artifacts/tiny/report/results.csv").read_text(encoding="utf-8")
