"""`compute.shards`: finished shards in a bucket or a shared folder, from which another machine continues."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import s3fs
from loopback_s3 import s3_server
from pictures import contents, job, make_images, reindex, tiny_encoder

from features.encoding.encoder import Encoder
from features.errors import InputError
from features.extraction import extract as extraction
from features.extraction import pipeline as extraction_pipeline
from features.extraction.bucket import Bucket, shard_location
from features.extraction.extract import extract
from features.image_store import writer as image_store_writer
from features.image_store.writer import shard_files, write_shard
from features.index_table import Index

pytestmark = pytest.mark.system  # an S3 server

BUCKET = Bucket("s3://team/shards")
COUNTS = {"train": 40, "val": 5, "test": 21}  # 5 shards


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with s3_server() as settings, pytest.MonkeyPatch.context() as environment:
        for name, value in settings.items():
            environment.setenv(name, value)
        yield
    forget_clients()


def forget_clients() -> None:
    """Drop fsspec's client, which it keeps for the process and which read the server's address when it was created."""
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_store_writer, "CROPS_IN_SHARD", 64)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Index]:
    """66 files, two of which are no pictures."""
    folder = tmp_path_factory.mktemp("images")
    index = make_images(folder, COUNTS)  # type: ignore[arg-type]
    for row in (2, 41):
        (folder / index.paths[row]).write_bytes(b"<html>")
    return folder, reindex(folder, index)


Store = Callable[[Path, Bucket | None], dict[str, bytes]]


@pytest.fixture(scope="module")
def stored(images: tuple[Path, Index], encoder: Encoder) -> Store:
    """Return a function that extracts on a machine that has only the images and the bucket."""

    def make(machine: Path, bucket: Bucket | None) -> dict[str, bytes]:
        extraction_job = job(*images, encoder, on_bad_image="skip", patches=4, bucket=bucket)
        extract(extraction_job, machine / "a.zarr", machine / "scratch")
        return contents(machine / "a.zarr")

    return make


@pytest.fixture(scope="module")
def undisturbed(stored: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_store_writer, "CROPS_IN_SHARD", 64)
        return stored(tmp_path_factory.mktemp("alone"), None)


def names() -> list[str]:
    """Return the names of all files in the bucket."""
    with BUCKET._open() as (files, root):
        return [str(name).removeprefix(root) for name in files.find(root)]


class MachineLost(BaseException):
    """The loss of a machine: no handler of the program catches it."""


def lose_machine_at(monkeypatch: pytest.MonkeyPatch, module: object, name: str, number: int = 0) -> list[object]:
    """Lose the machine at this call of the function, from 1 (0: never); return the list of its calls."""
    inner: Callable[..., Any] = getattr(module, name)
    calls: list[object] = []

    def call(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if 0 < number <= len(calls):  # later calls fail, too: other threads may still be at work
            raise MachineLost
        return inner(*args, **options)

    monkeypatch.setattr(module, name, call)
    return calls


IN_THIRD_SHARD = (extraction_pipeline, "write_shard", 3)
WHILE_THE_STORE_WAS_WRITTEN = (extraction, "write_store", 1)


@pytest.mark.parametrize(("moment", "left"), [(IN_THIRD_SHARD, 3), (WHILE_THE_STORE_WAS_WRITTEN, 0)])
def test_another_machine_continues_from_the_finished_shards_of_a_lost_one(
    stored: Store, undisturbed: dict[str, bytes], tmp_path: Path, moment: tuple[object, str, int], left: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        lose_machine_at(patch, *moment)
        with pytest.raises(MachineLost):
            stored(tmp_path / "lost", BUCKET)
    assert len([file for file in names() if "." not in Path(file).name]) == 5 - left
    with pytest.MonkeyPatch.context() as patch:
        written = lose_machine_at(patch, extraction_pipeline, "write_shard")
        assert stored(tmp_path / "next", BUCKET) == undisturbed
    assert len(written) == left
    assert "invalid.json" in undisturbed
    assert "train/patches/zarr.json" in undisturbed
    assert not names()


def test_a_shard_that_is_put_again_replaces_all_files_of_the_earlier_one(tmp_path: Path) -> None:
    arrays = [np.ones((2, 1, 4), np.float16)]
    for folder, invalid in {"earlier": {"a.png": "permission denied"}, "later": {}}.items():
        write_shard(tmp_path / folder / "key", arrays, 1, invalid)
        BUCKET.put(tmp_path / folder / "key")
    skipped, _, features = shard_files(tmp_path / "earlier/key")
    assert skipped.exists()
    BUCKET.fetch(tmp_path / "earlier", ["key", "another"])
    assert not skipped.exists()
    assert contents(tmp_path / "earlier") == contents(tmp_path / "later") == {"key": features.read_bytes()}
    BUCKET.clear()


def bucket_error(images: tuple[Path, Index], encoder: Encoder, folder: Path, address: str) -> str:
    """Return the error for a bucket that cannot be used; it comes before any image is read."""
    with pytest.MonkeyPatch.context() as patch:
        lose_machine_at(patch, extraction, "compute", 1)
        with pytest.raises(InputError, match=r"compute\.shards: .*compute\.shards to null") as caught:
            extract(job(*images, encoder, bucket=Bucket(address)), folder / "a.zarr", folder / "s", extraction.compute)
    return str(caught.value)


def test_a_missing_bucket_is_an_error_before_work(images: tuple[Path, Index], encoder: Encoder, tmp_path: Path) -> None:
    assert "bucket does not exist" in bucket_error(images, encoder, tmp_path, "s3://nowhere/shards")
    assert "Protocol not known: s4" in bucket_error(images, encoder, tmp_path, "s4://team/shards")


def test_a_server_that_does_not_answer_is_an_error_before_work(
    images: tuple[Path, Index], encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    forget_clients()
    try:
        assert f"127.0.0.1:{port}" in bucket_error(images, encoder, tmp_path, "s3://team/shards")
    finally:
        forget_clients()


def test_without_a_client_for_s3_the_error_names_the_package(
    images: tuple[Path, Index], encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules["fsspec.registry"].__dict__["_registry"], "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert "pip install -e '.[s3]'" in bucket_error(images, encoder, tmp_path, "s3://team/shards")


def test_shards_in_a_shared_folder_give_the_same_bytes(
    images: tuple[Path, Index], encoder: Encoder, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    folder, bucket = shard_location(f"file://{tmp_path}/shared", tmp_path / "scratch")
    assert (folder, bucket) == (tmp_path / "shared", None)
    extract(job(*images, encoder, on_bad_image="skip", patches=4), tmp_path / "a.zarr", folder)
    assert contents(tmp_path / "a.zarr") == undisturbed
    assert shard_location(None, tmp_path) == (tmp_path, None)
    assert shard_location("s3://team/shards", tmp_path) == (tmp_path, BUCKET)
    with pytest.raises(InputError, match="file:///shared/folder"):
        shard_location("file://shared", tmp_path)
