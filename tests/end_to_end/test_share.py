"""Two clones and a remote: what one has computed, the other pulls, without the images and without the encoder."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
from asyncio import new_event_loop
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from loopback_s3 import s3_server
from small_repo import PARAMS, copy_repo, lock, ran, run, write_params

CELL = "mine-base_to_new"
# The cells that change when a parameter of `coop` does: CoOp alone, and CoOp with synthetic features.
COOP = {
    f"fit@{CELL}-coop",
    f"evaluate@{CELL}-coop",
    f"fit_synthetic@{CELL}-ship-coop",
    f"evaluate_synthetic@{CELL}-ship-coop",
}


@pytest.fixture(scope="module")
def origin(reproduced_repo: Path, warm_path: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clone A, which has the images and the encoder and has run everything; git tracks neither."""
    repo = copy_repo(reproduced_repo, tmp_path_factory.mktemp("a") / "repo")
    with (repo / ".gitignore").open("a", encoding="utf-8") as file:
        file.write("/encoder/\n")
    commit(repo)
    return repo


def commit(repo: Path) -> None:
    """Commit everything that .gitignore does not name."""
    run(repo, "git", "add", "--all")
    run(repo, "git", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "Run")


@contextmanager
def folder_remote(place: Path, _: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the path of a folder."""
    yield str(place / "store")


@contextmanager
def s3_remote(_: Path, environment: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield an address in a bucket, whose server listens on the loopback interface."""
    with s3_server() as settings:
        for name, value in settings.items():
            environment.setenv(name, value)
        yield "s3://team/shipyard"


@contextmanager
def ssh_remote(place: Path, environment: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the address of a folder behind an SFTP server that listens on the loopback interface."""
    import asyncssh  # noqa: PLC0415 (takes a second, and one test needs it)

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


REMOTES = [
    pytest.param(folder_remote, id="folder"),
    pytest.param(s3_remote, id="s3", marks=pytest.mark.system),
    pytest.param(ssh_remote, id="ssh", marks=pytest.mark.system),
]


@pytest.mark.parametrize("remote", REMOTES)
def test_a_colleague_pulls_and_has_nothing_to_run(
    origin: Path,
    remote: Callable[[Path, pytest.MonkeyPatch], AbstractContextManager[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with remote(tmp_path, monkeypatch) as url:
        run(origin, "dvc", "remote", "add", "--force", "--default", "team", url)
        run(origin, "dvc", "remote", "modify", "team", "verify", "true")
        run(origin, "dvc", "push")
        colleague = clone(origin, tmp_path / "b")
        run(colleague, "dvc", "pull")
    assert not (colleague / "data").exists()
    assert not (colleague / "encoder").exists()
    assert ran(run(colleague, "dvc", "repro")) == set()
    for file in ("features/mine.zarr/meta.json", "report/results.csv"):
        assert (colleague / "artifacts/tiny" / file).read_bytes() == (origin / "artifacts/tiny" / file).read_bytes()


def clone(origin: Path, place: Path) -> Path:
    """Clone a repository, and give the clone the same DVC remote."""
    run(origin, "git", "clone", "-q", str(origin), str(place))
    (place / ".dvc/config").write_bytes((origin / ".dvc/config").read_bytes())
    return place


@pytest.fixture(scope="module")
def colleague(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clone B, which has pulled from a folder."""
    place = tmp_path_factory.mktemp("b")
    run(origin, "dvc", "remote", "add", "--force", "--default", "team", str(place / "store"))
    run(origin, "dvc", "push")
    repo = clone(origin, place / "repo")
    run(repo, "dvc", "pull")
    return repo


def changed(block: str, values: dict[str, object]) -> dict[str, Any]:
    """Return the parameters with other values in one block, which a dotted key names."""
    params: dict[str, Any] = json.loads(json.dumps(PARAMS))
    place = params
    for name in block.split("."):
        place = place[name]
    place.update(values)
    return params


def test_a_methods_parameter_reruns_that_method_and_the_other_clone_pulls_the_runs(
    origin: Path, colleague: Path
) -> None:
    params = changed("methods.coop", {"epochs": 3})
    write_params(colleague, params)
    assert ran(run(colleague, "dvc", "repro")) == {*COOP, "report"}
    run(colleague, "dvc", "push", "--run-cache")

    write_params(origin, params)
    try:
        run(origin, "dvc", "pull", "--run-cache", "--allow-missing")
        assert ran(run(origin, "dvc", "repro", "--pull")) == set(), "the run cache has the colleague's runs"
        locked = [yaml.safe_load((repo / "dvc.lock").read_text("utf-8")) for repo in (origin, colleague)]
        assert locked[0] == locked[1]
    finally:
        write_params(origin, PARAMS)
        write_params(colleague, PARAMS)


def test_a_generators_parameter_runs_no_extraction(colleague: Path) -> None:
    run(colleague, "git", "checkout", "-q", "dvc.lock")
    run(colleague, "dvc", "checkout")
    write_params(colleague, changed("generators.ship", {"epochs": 3}))
    assert ran(run(colleague, "dvc", "repro")) == {
        f"train_generator@{CELL}-ship",
        f"synthesize@{CELL}-ship",
        f"evaluate_generator@{CELL}-ship",
        f"visualize_features@{CELL}-ship",
        f"fit_synthetic@{CELL}-ship-coop",
        f"evaluate_synthetic@{CELL}-ship-coop",
        "report",
    }


def test_two_clones_share_one_cache_by_hard_links(origin: Path, tmp_path: Path) -> None:
    cache = origin / ".dvc/cache"
    repo = clone(origin, tmp_path / "repo")
    run(repo, "dvc", "cache", "dir", "--local", str(cache))
    run(repo, "dvc", "config", "--local", "cache.shared", "group")
    run(repo, "dvc", "config", "--local", "cache.type", "hardlink")
    run(repo, "dvc", "checkout")
    assert (repo / "artifacts/tiny/features/mine.zarr/meta.json").stat().st_nlink > 1
    write_params(repo, changed("methods.coop", {"epochs": 4}))
    assert ran(run(repo, "dvc", "repro")) == {*COOP, "report"}
    files = [file for file in (cache / "files/md5").glob("??/*") if file.is_file()]
    assert files
    for file in files:
        digest = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
        assert digest == file.parent.name + file.name.removesuffix(".dir"), "a stage wrote into the cache"
    assert ran(run(origin, "dvc", "repro")) == set()


@pytest.mark.system
def test_finished_shards_are_kept_in_a_bucket(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = lock(origin)
    extract = ("dvc", "repro", "--force", "--single-item", "extract@mine")
    with s3_remote(tmp_path, monkeypatch):
        try:
            write_params(origin, changed("compute", {"shards": "s3://nowhere/shards"}))
            assert "nowhere" in run(origin, *extract, check=False)
            write_params(origin, changed("compute", {"shards": "s3://team/shards"}))
            assert ran(run(origin, *extract)) == {"extract@mine"}
        finally:
            write_params(origin, PARAMS)
    assert lock(origin) == before


def test_imported_features_run_through_the_pipeline_without_images(origin: Path, tmp_path: Path) -> None:
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

    params = {**PARAMS, "grid": {**PARAMS["grid"], "datasets": ["lab"], "generators": [], "synthetic_methods": []}}
    params["data"] = {"root": "data", "sets": {"lab": {"reader": "imported"}}}
    write_params(tmp_path, params)
    run(tmp_path, "git", "init", "-q")
    run(tmp_path, "dvc", "init", "-q")

    command = ["python", "-m", "pipeline.cli.app", "features", "import", "lab.npz", "lab", "--encoder", "tiny"]
    # Without the checksum of the weights, the import is refused, and the message gives the checksum to confirm.
    refusal = run(tmp_path, *command, check=False)
    (sha,) = re.findall(r"--weights-sha256 ([0-9a-f]{64})", refusal)
    mismatch = run(tmp_path, *command, "--weights-sha256", "0" * 64, check=False)
    assert "0" * 12 in mismatch
    assert sha[:12] in mismatch
    assert not (tmp_path / "artifacts/tiny/features/lab.zarr").exists()
    assert "dvc commit --force index@lab extract@lab" in run(tmp_path, *command, "--weights-sha256", sha)

    run(tmp_path, "dvc", "repro", "code")
    run(tmp_path, "dvc", "commit", "--force", "index@lab", "extract@lab", "text_tower")
    methods = PARAMS["grid"]["methods"]
    cells = {f"{stage}@lab-base_to_new-{name}" for stage in ("fit", "evaluate") for name in methods}
    assert ran(run(tmp_path, "dvc", "repro")) >= cells
    assert ran(run(tmp_path, "dvc", "repro")) == set()
    assert "lab" in (tmp_path / "artifacts/tiny/report/results.csv").read_text(encoding="utf-8")
