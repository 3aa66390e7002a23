"""Bad images of many kinds are reported all at once, or marked and counted; odd but whole images are read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

import numpy as np
import pytest
from bad_images import READABLE, UNREADABLE, saved, write
from pictures import index_of, job, tiny_encoder

from features.datasets.base import Image as Listed
from features.datasets.base import Listing, Origin
from features.encoding.encoder import Encoder
from features.encoding.images import UnreadableImageError, decode
from features.errors import InputError
from features.extraction.extract import extract
from features.image_store.store import INVALID, ImageStore
from features.index import write_index
from features.index_table import Index

BAD = {name: data for name, (data, _) in UNREADABLE.items()}
TOO_ELONGATED = ("thread.png",)  # can be decoded, but not be cropped square


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


def test_there_are_forty_kinds_of_bad_images() -> None:
    assert len(UNREADABLE) >= 40


@pytest.mark.parametrize("name", [name for name in UNREADABLE if name not in TOO_ELONGATED])
def test_an_unreadable_image_is_an_error_with_its_reason(name: str) -> None:
    data, reason = UNREADABLE[name]
    with pytest.raises(UnreadableImageError, match=reason):
        decode(data)


@pytest.mark.parametrize("name", READABLE)
def test_an_odd_but_whole_image_is_read(name: str) -> None:
    assert decode(READABLE[name]).mode == "RGB"


def mixed(folder: Path) -> Index:
    """Write all files: class 0 are the bad ones (train, val), class 1 the good ones, which the test split has, too."""
    names = write(folder, BAD | READABLE)
    rows = [(name, int(name in READABLE), "val" if name.endswith(".tif") else "train") for name in names]
    rows += [(f"test/{name}", 1, "test") for name in write(folder / "test", {**READABLE, "page.jpg": BAD["page.jpg"]})]
    order = {"train": 0, "val": 1, "test": 2}
    return index_of(folder, sorted(rows, key=lambda row: (order[row[2]], row[0])))  # type: ignore[arg-type]


def test_all_bad_images_are_reported_once_with_the_fix(tmp_path: Path, encoder: Encoder) -> None:
    index = mixed(tmp_path / "images")
    with pytest.raises(InputError, match=rf"extract\.on_bad_image.*\({len(BAD) + 1} problems\)") as caught:
        extract(job(tmp_path / "images", index, encoder), tmp_path / "a.zarr", tmp_path / "scratch")
    names = [line.removeprefix("  - ").split(": ")[0] for line in str(caught.value).splitlines()[1:]]
    assert sorted(names) == sorted([*BAD, "test/page.jpg"])
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_skipped_images_are_marked_and_rows_stay_aligned(
    tmp_path: Path, encoder: Encoder, workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    index = mixed(tmp_path / "images")
    extraction = job(tmp_path / "images", index, encoder, workers=workers, on_bad_image="skip")
    extract(extraction, tmp_path / "a.zarr", tmp_path / "scratch")
    store = ImageStore.open(tmp_path / "a.zarr", verify=True)
    paths = iter(index.paths)
    for split in store.splits:
        rows = store.load(split)
        of_split = [next(paths) for _ in rows.labels]
        assert rows.valid.tolist() == [Path(path).name in READABLE for path in of_split]
        assert rows.labels.tolist() == index.class_ids[index.rows(split)].tolist()
        assert np.array_equal(rows.usable_labels, np.where(rows.valid, rows.labels, -1))
        assert (np.abs(rows.features).sum(axis=(1, 2)) > 0).tolist() == rows.valid.tolist()
    assert f"{len(BAD) + 1} images" in capfd.readouterr().err
    invalid = (tmp_path / "a.zarr" / INVALID).read_text()
    assert (invalid.count("empty.jpg"), invalid.count("page.jpg")) == (1, 2)
    good = index_of(tmp_path / "images", [(f"test/{name}", 1, "test") for name in sorted(READABLE)])
    extract(job(tmp_path / "images", good, encoder), tmp_path / "good.zarr", tmp_path / "scratch")
    alone, among = ImageStore.open(tmp_path / "good.zarr").load("test"), store.load("test")
    np.testing.assert_allclose(among.features[among.valid].astype(float), alone.features.astype(float), atol=2e-3)


def test_shards_with_skipped_images_are_not_reused_by_a_run_that_may_not_skip(tmp_path: Path, encoder: Encoder) -> None:
    index, folder = mixed(tmp_path / "images"), tmp_path / "images"
    scratch = tmp_path / "scratch"

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("features.extraction.extract.write_store", stop)
        with pytest.raises(KeyboardInterrupt):
            extract(job(folder, index, encoder, on_bad_image="skip"), tmp_path / "a.zarr", scratch)
    with pytest.raises(InputError, match=f"{len(BAD) + 1} problems"):
        extract(job(folder, index, encoder), tmp_path / "a.zarr", scratch)


def test_an_image_that_changed_is_never_skipped(tmp_path: Path, encoder: Encoder) -> None:
    folder = tmp_path / "images"
    index = index_of(folder, [(name, 0, "train") for name in write(folder, READABLE)])
    data = bytearray((folder / "alpha.png").read_bytes())
    data[-1] ^= 1
    (folder / "alpha.png").write_bytes(data)
    with pytest.raises(InputError, match=r"(?s)1 images.*alpha\.png: "):
        extract(job(folder, index, encoder, on_bad_image="skip"), tmp_path / "a.zarr", tmp_path / "scratch")


# ----- faults of the file instead of its bytes ------------------------------------------------------------------------


def create(folder: Path, kind: str) -> str:
    """Put something that is no file of the data set under the name of an image; return its path."""
    outside, file = folder.parent / "elsewhere.png", folder / "cat" / "odd.png"
    outside.write_bytes(saved())
    file.parent.mkdir(parents=True)
    match kind:
        case "a dangling link":
            file.symlink_to("nowhere.png")
        case "a link to itself":
            file.symlink_to("odd.png")
        case "a link that leads out":
            file.symlink_to(outside)
        case "a device":
            file.symlink_to("/dev/zero")
        case "a pipe":
            os.mkfifo(file)
        case "a folder":
            file.mkdir()
        case "a name that is not UTF-8":
            file = folder / "cat" / os.fsdecode(b"caf\xe9.png")
            file.write_bytes(saved())
        case "no permission":
            file.write_bytes(saved())
            file.chmod(0)
    return file.relative_to(folder).as_posix()


KINDS = {
    "a dangling link": "No such file",
    "a link to itself": "symbolic links",
    "a link that leads out": r"symbolic link.*outside",
    "a device": "regular file",
    "a pipe": "regular file",
    "a folder": "regular file",
    "a name that is not UTF-8": "UTF-8",
    "no permission": "Permission denied",
}


@contextmanager
def nobody(folder: Path) -> Iterator[None]:
    """Work in the folder as a user who needs permissions; root does not."""
    folder.chmod(0o777)
    with chdir(folder):
        if os.geteuid() != 0:
            yield
            return
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)


@pytest.mark.parametrize("kind", KINDS)
def test_something_that_is_no_file_of_the_data_set_is_an_error_of_the_index(tmp_path: Path, kind: str) -> None:
    path = create(tmp_path / "images", kind)
    listing = Listing((Listed(path, 0, "train"),), ("cat",), ("a {}.",), Origin("t", "l", "h", "c"))
    someone = nobody if kind == "no permission" else chdir
    with someone(tmp_path), pytest.raises(InputError, match=KINDS[kind]):
        write_index(listing, Path("images"), Path("i.parquet"), Path("i.json"), Path("cache.json"))
    assert not (tmp_path / "i.parquet").exists()


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A folder that every user can reach by its absolute path, as filelock needs; tmp_path is closed to others."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_an_image_without_read_permission_is_a_bad_image(public_path: Path, encoder: Encoder) -> None:
    folder = public_path / "images"
    index = index_of(folder, [(name, 0, "train") for name in write(folder, READABLE)])
    (folder / "alpha.png").chmod(0)
    with nobody(public_path):
        with pytest.raises(InputError, match=r"(?s)\(1 problem\).*alpha\.png: .*Permission denied"):
            extract(job(Path("images"), index, encoder), Path("a.zarr"), Path("scratch"))
        extract(job(Path("images"), index, encoder, on_bad_image="skip"), Path("a.zarr"), Path("scratch"))
    assert "Permission denied" in (public_path / "a.zarr" / INVALID).read_text()


def test_a_link_within_the_data_set_and_a_linked_folder_are_followed(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    write(folder / "cat", {"one.png": saved()})
    (folder / "cat" / "two.png").symlink_to("one.png")
    (tmp_path / "by another name").symlink_to(folder)
    write(tmp_path / "elsewhere", {"three.png": saved()})
    (folder / "train").symlink_to(tmp_path / "elsewhere")  # CoOp: `ln -s /path/to/imagenet/train`
    paths = ("cat/one.png", "cat/two.png", "train/three.png")
    images = tuple(Listed(path, 0, "train") for path in paths)
    listing = Listing(images, ("cat",), ("a {}.",), Origin("t", "l", "h", "c"))
    place = tmp_path / "by another name"
    write_index(listing, place, tmp_path / "i.parquet", tmp_path / "i.json", tmp_path / "cache.json")
    assert (tmp_path / "i.parquet").exists()
