"""Fetching data sets from a small local server, with archives that are complete, truncated, corrupt or malicious."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import io
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from project_root import ROOT
from typer.testing import CliRunner

import features.datasets
from features.datasets.base import Archive, Counts, Published, Reader
from features.datasets.dtd import DescribableTextures
from features.errors import InputError
from features.fetching.download import download
from features.fetching.fetch import fetch
from features.fetching.unpack import unpack
from features.lookup import find, names
from pipeline.cli import app as cli
from pipeline.config.params import load


class Server(ThreadingHTTPServer):
    """A server of `files` that cuts its first `cuts` answers after `cut_at` bytes, and records each request's Range."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cuts, self.cut_at = 0, 0
        self.ranges: list[str | None] = []
        self.etag = True

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        data = self.server.files.get(self.path.lstrip("/"))
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if data is None:
            self.send_error(404)
            return
        version = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.headers["If-Range"] == version else 0
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if self.server.etag:
            self.send_header("ETag", version)
        self.end_headers()
        if self.server.cuts:
            self.server.cuts -= 1
            data = data[: start + self.server.cut_at]
        self.wfile.write(data[start:])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def tarred(members: dict[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


DATA = bytes(range(256)) * 4000


# One file


def test_a_file_is_fetched_and_checked(server: Server, tmp_path: Path) -> None:
    server.files["x.bin"] = DATA
    seen: list[tuple[int, int | None]] = []
    file = tmp_path / "deep/x.bin"
    download(server.url("x.bin"), file, sha256(DATA), lambda *bytes_: seen.append(bytes_))
    assert file.read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert contents(tmp_path) == {"deep/x.bin": DATA}, "nothing else is left"


def test_a_broken_connection_is_resumed(server: Server, tmp_path: Path) -> None:
    server.files["x.bin"] = DATA
    server.cuts, server.cut_at = 2, 300_000
    download(server.url("x.bin"), tmp_path / "x.bin", sha256(DATA))
    assert (tmp_path / "x.bin").read_bytes() == DATA
    assert server.ranges == [None, "bytes=300000-", "bytes=600000-"]


def test_a_later_call_resumes_an_earlier_one(server: Server, tmp_path: Path) -> None:
    server.files["x.bin"] = DATA
    server.cuts, server.cut_at = 5, 1000
    with pytest.raises(InputError, match=r"5,000 bytes.*x\.bin\.part"):
        download(server.url("x.bin"), tmp_path / "x.bin", sha256(DATA))
    assert not (tmp_path / "x.bin").exists()
    download(server.url("x.bin"), tmp_path / "x.bin", sha256(DATA))
    assert server.ranges[-1] == "bytes=5000-"
    assert (tmp_path / "x.bin").read_bytes() == DATA


@pytest.mark.parametrize("etag", [True, False])
def test_parts_of_two_versions_are_never_joined(server: Server, tmp_path: Path, etag: bool) -> None:
    server.etag = etag
    server.files["x.bin"] = b"old" * 1000
    server.cuts, server.cut_at = 5, 100
    with pytest.raises(InputError, match=r"x\.bin\.part"):
        download(server.url("x.bin"), tmp_path / "x.bin", "")
    server.files["x.bin"] = b"new" * 1000
    download(server.url("x.bin"), tmp_path / "x.bin", "")
    assert (tmp_path / "x.bin").read_bytes() == b"new" * 1000


def test_a_corrupted_file_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    server.files["x.bin"] = DATA[:-1] + b"!"
    md5 = f"md5:{hashlib.md5(DATA, usedforsecurity=False).hexdigest()}"
    with pytest.raises(InputError, match=rf"md5 is \w+, expected {md5[4:]}"):
        download(server.url("x.bin"), tmp_path / "x.bin", md5)
    assert contents(tmp_path) == {}


def test_a_file_without_a_published_checksum_must_stay_the_first_one(server: Server, tmp_path: Path) -> None:
    server.files["x.bin"] = DATA
    download(server.url("x.bin"), tmp_path / "x.bin", "")
    assert (tmp_path / "x.bin.sha256").read_text() == f"{sha256(DATA)}\n"
    server.files["x.bin"] = DATA + b"more"
    with pytest.raises(InputError, match=r"x\.bin\.sha256"):
        download(server.url("x.bin"), tmp_path / "x.bin", "")


def test_a_server_that_refuses_is_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.zip: .*404"):
        download(server.url("gone.zip"), tmp_path / "x", "")
    with pytest.raises(InputError, match=r"file://.*http"):
        download((tmp_path / "x").as_uri(), tmp_path / "y", "")


# Archives


GOOD = {"top/images/a/1.jpg": b"one", "top/images/b c/ü.jpg": b"two", "top/readme.txt": b"not wanted"}


@pytest.mark.parametrize("archive", [tarred(GOOD), tarred(GOOD, "w"), zipped(GOOD)], ids=["tar.gz", "tar", "zip"])
def test_only_the_requested_folder_is_unpacked(archive: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(archive)
    unpack(tmp_path / "x", "top/images", tmp_path / "data/pictures")
    assert contents(tmp_path / "data") == {"pictures/a/1.jpg": b"one", "pictures/b c/ü.jpg": b"two"}


def test_an_archive_in_an_archive_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zipped({"d/inner.tar.gz": tarred({"cats/1.jpg": b"one"}), "d/other.tar": b"?"}))
    unpack(tmp_path / "x.zip", "d/inner.tar.gz/cats", tmp_path / "data/cats")
    assert contents(tmp_path / "data") == {"cats/1.jpg": b"one"}


def link(target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


HOSTILE = {
    "tar with ..": tarred({"top/images/1.jpg": b"one", "top/images/../../../evil": b"evil"}),
    "tar with .. elsewhere": tarred({"top/images/1.jpg": b"one", "other/../../../evil": b"evil"}),
    "tar with a root": tarred({"top/images/1.jpg": b"one", "/evil": b"evil"}),
    "tar with a link out": tarred({"top/images/up": link("../../.."), "top/images/up/evil": b"evil"}),
    "tar with an absolute link": tarred({"top/images/up": link("/"), "top/images/up/evil": b"evil"}),
    "tar with a device": tarred({"top/images/null": link("", tarfile.CHRTYPE)}),
    "zip with ..": zipped({"top/images/1.jpg": b"one", "top/images/../../../evil": b"evil"}),
    "zip with a root": zipped({"top/images/1.jpg": b"one", "/evil": b"evil"}),
    "zip with backslashes": zipped({"top/images/1.jpg": b"one", "top/images/..\\..\\evil": b"evil"}),
    "zip with a drive": zipped({"top/images/1.jpg": b"one", "C:/evil": b"evil"}),
}


@pytest.mark.parametrize("archive", HOSTILE.values(), ids=HOSTILE)
def test_nothing_leaves_the_folder(archive: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a/b/x"
    file.parent.mkdir(parents=True)
    file.write_bytes(archive)
    with pytest.raises(InputError, match="/a/b/x "):
        unpack(file, "top/images", tmp_path / "a/b/data/images")
    assert contents(tmp_path) == {"a/b/x": archive}


def test_a_damaged_or_other_archive_is_refused(tmp_path: Path) -> None:
    whole = tarred({f"top/images/{i}.jpg": DATA[:5000] for i in range(20)})
    for name, data, message in (
        ("cut.tar.gz", whole[: len(whole) // 2], r"cut\.tar\.gz"),
        ("page.zip", b"<html>please log in</html>", r"page\.zip"),
        ("other.zip", zipped({"else/1.jpg": b"one"}), "'top/images'"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=message):
            unpack(tmp_path / name, "top/images", tmp_path / "data/images")
        assert contents(tmp_path / "data") == {}


@pytest.mark.parametrize("kind", ["tar.gz", "tar.xz", "zip"])
def test_every_changed_byte_of_an_image_is_detected(kind: str, tmp_path: Path) -> None:
    """By the checksums inside the formats: some data sets have no published one."""
    files = {"top/images/1.jpg": np.random.default_rng(0).bytes(20_000)}
    whole = zipped(files) if kind == "zip" else tarred(files, f"w:{kind[4:]}")
    for place in range(2_000, len(whole) - 2_000, 1_500):
        (tmp_path / "x").write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        with pytest.raises(InputError, match="/x "):
            unpack(tmp_path / "x", "top/images", tmp_path / "images")
    assert contents(tmp_path).keys() == {"x"}


# Data sets


def textures(server: Server, data: bytes, *, published: bool = True) -> Reader:
    checksum = sha256(data) if published else ""

    class Textures(DescribableTextures):
        archives: ClassVar[tuple[Archive, ...]] = (
            Archive(server.url("dtd.tar.gz"), creates="images", inside="dtd/images", checksum=checksum),
        )

    return Textures(reader="dtd")


def test_a_data_set_is_fetched_to_where_its_reader_looks(server: Server, tmp_path: Path) -> None:
    data = tarred({"dtd/images/banded/banded_0002.jpg": b"x", "dtd/labels/l.txt": b"y"})
    server.files["dtd.tar.gz"] = data
    log: list[str] = []
    reader = textures(server, data)
    fetch(reader, tmp_path, log.append)
    assert contents(tmp_path) == {"dtd/images/banded/banded_0002.jpg": b"x"}, "the archive is deleted"
    assert reader.folder(tmp_path) == tmp_path / "dtd/images"
    fetch(reader, tmp_path, log.append)
    assert str(tmp_path / "dtd/images") in log[-1]
    assert len(server.ranges) == 1, "not fetched again"


def test_the_checksum_of_a_truncated_archive_is_not_kept(server: Server, tmp_path: Path) -> None:
    """If no checksum is published and the server does not send the file's length."""
    data = tarred({f"dtd/images/a/{i}.jpg": DATA[:5000] for i in range(20)})
    reader = textures(server, data, published=False)
    server.files["dtd.tar.gz"] = data[: len(data) // 2]
    with pytest.raises(InputError, match=r"dtd\.tar\.gz"):
        fetch(reader, tmp_path, lambda _: None)
    (tmp_path / ".downloads/dtd.tar.gz").unlink()
    server.files["dtd.tar.gz"] = data
    fetch(reader, tmp_path, lambda _: None)
    assert len(contents(tmp_path / "dtd")) == 20


def test_another_archive_put_there_by_hand_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".downloads").mkdir()
    (tmp_path / ".downloads/dtd.tar.gz").write_bytes(tarred({"dtd/images/a/1.jpg": b"y"}))
    with pytest.raises(InputError, match=r"dtd\.tar\.gz .*http.*sha256"):
        fetch(textures(server, tarred({"dtd/images/a/1.jpg": b"x"})), tmp_path, lambda _: None)
    assert not (tmp_path / "dtd").exists()


def test_an_archive_put_there_by_hand_is_used(server: Server, tmp_path: Path) -> None:
    data = tarred({"dtd/images/a/1.jpg": b"x"})
    (tmp_path / ".downloads").mkdir()
    (tmp_path / ".downloads/dtd.tar.gz").write_bytes(data)
    fetch(textures(server, data), tmp_path, lambda _: None)
    assert (tmp_path / "dtd/images/a/1.jpg").read_bytes() == b"x"
    assert server.ranges == []


@pytest.mark.parametrize("name", ["imagenet", "stanford_cars", "ucf101", "flo"])
def test_manual_steps_are_explained(name: str, tmp_path: Path) -> None:
    reader = find(features.datasets, name, Reader)(reader=name)  # type: ignore[call-arg]
    with pytest.raises(InputError, match=rf"{name} .*data\.root/"):
        fetch(reader, tmp_path, print)


def archives_of(name: str) -> tuple[Archive, ...]:
    return find(features.datasets, name, Reader).archives


@pytest.mark.parametrize("name", names(features.datasets))
def test_archives_are_declared_correctly(name: str) -> None:
    reader = find(features.datasets, name, Reader)
    for archive in reader.archives:
        assert archive.url.startswith(("https://", "http://"))
        algorithm, _, digest = archive.checksum.partition(":")
        assert len(digest) == {"md5": 32, "sha256": 64, "": 0}[algorithm]
        assert archive.into == "" or archive.creates.partition("/")[0] in {
            images.partition("/")[0] for images in reader.images
        }, "it must become a folder that the reader uses"


def test_addresses_and_checksums_are_torchvisions_where_it_has_them() -> None:
    from torchvision import datasets as official

    known = {
        "oxford_pets": official.OxfordIIITPet._RESOURCES[0],
        "food101": (official.Food101._URL, official.Food101._MD5),
        "dtd": (official.DTD._URL, official.DTD._MD5),
        "sun397": (official.SUN397._DATASET_URL, official.SUN397._DATASET_MD5),
        "flowers102": (
            official.Flowers102._download_url_prefix + official.Flowers102._file_dict["image"][0],
            official.Flowers102._file_dict["image"][1],
        ),
    }
    ours = {name: archives_of(name)[0] for name in known}
    assert {name: (a.url, a.checksum.removeprefix("md5:")) for name, a in ours.items()} == known
    assert archives_of("fgvc_aircraft")[0].url == official.FGVCAircraft._URL
    for name, dataset in {"caltech101": official.Caltech101, "eurosat": official.EuroSAT}.items():
        (archive,) = archives_of(name)
        text = inspect.getsource(dataset.download)  # it has no name for either
        assert archive.url in text
        assert archive.checksum.removeprefix("md5:") in text


# The command line


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shipped = ROOT / "params.yaml"
    (tmp_path / "params.yaml").write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_data_set_is_listed_with_its_published_numbers(project: Path) -> None:
    (project / "data/dtd/images").mkdir(parents=True)
    output = CliRunner().invoke(cli.app, ["data", "list"]).stdout
    lines = {line.split()[0]: line.split() for line in output.splitlines() if line}
    assert lines["dtd"] == ["dtd", "47", "2,820", "1,128", "1,692", "research", "yes"]
    assert lines["imagenet_r"][-1] == "no"
    sets = load(project / "params.yaml").data.sets
    assert {*sets} <= {*lines}
    own = {"image_shards", "image_table"}  # readers of own images, which no shipped data set has
    assert {*names(features.datasets)} - own == {spec["reader"] for spec in sets.values()}


def test_the_details_of_one_data_set_are_shown(project: Path) -> None:
    output = CliRunner().invoke(cli.app, ["data", "list", "eurosat"]).stdout
    assert "a centered satellite photo of {}." in output
    assert "md5:c8fa014336c82ac7804f0398fcb19387" in output
    assert "Helber" in output
    result = CliRunner().invoke(cli.app, ["data", "list", "eurosad"])
    assert isinstance(result.exception, InputError)
    assert "'eurosat'" in str(result.exception)


def test_what_was_fetched_is_read_at_once(project: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["food.tar.gz"] = tarred({"food-101/images/apple_pie/1.jpg": b"x"})
    archive = Archive(server.url("food.tar.gz"), creates="images", inside="food-101/images")
    food101 = find(features.datasets, "food101", Published)
    monkeypatch.setattr(food101, "archives", (archive,))
    result = CliRunner().invoke(cli.app, ["data", "get", "food101"])
    assert isinstance(result.exception, InputError)
    assert "split_zhou_Food101.json" in str(result.exception)
    split = '{"train": [["apple_pie/1.jpg", 0, "apple_pie"]], "val": [], "test": []}'
    (project / "data/food-101/split_zhou_Food101.json").write_text(split)
    result = CliRunner().invoke(cli.app, ["data", "get", "food101"])
    assert "50,500" in str(result.exception)
    counts = Counts(train=1, val=0, test=0, classes=1)
    monkeypatch.setattr(food101, "origin", dataclasses.replace(food101.origin, counts=counts))
    output = CliRunner().invoke(cli.app, ["data", "get", "food101"]).stdout
    assert re.search(r"^food101: 1 .* 1 .*data/food-101/images$", output, re.MULTILINE)
