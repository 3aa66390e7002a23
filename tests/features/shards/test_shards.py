"""Images in tars and tables: the same index and features as the folder with the same images, and nothing unpacked."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loopback_s3 import s3_files
from pictures import contents, job, tiny_encoder
from small_archives import dealt, write_arrow, write_folder, write_parquet, write_tar

from features.datasets.base import Listing, Reader, reader_from
from features.encoding.encoder import Encoder
from features.errors import InputError
from features.extraction.extract import extract
from features.freshness import changed_archives
from features.image_store import writer as image_store_writer
from features.image_store.store import ImageStore
from features.index import write_index
from features.index_table import Index, read_index
from features.shards import scan
from features.shards.archives import expand_braces, find_archives
from features.shards.scan import scan_file
from features.shards.source import ImageSource

COUNT = 45
Write = Callable[[Path, Mapping[str, bytes]], Path]
KINDS: dict[str, Write] = {".tar": write_tar, ".parquet": write_parquet, ".arrow": write_arrow}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `photos` of class folders."""
    root = tmp_path_factory.mktemp("root")
    write_folder(root / "photos", COUNT)
    return root / "photos"


@pytest.fixture(scope="module")
def images(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*.png"))}


@pytest.fixture(autouse=True)
def in_scratch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(image_store_writer, "CROPS_IN_SHARD", 64)


def shards(path: Path | str, pattern: str, **options: Any) -> Reader:
    return reader_from({"reader": "image_shards", "path": str(path), "shards": pattern, **options}, "here")


def indexed(reader: Reader, out: Path) -> tuple[Index, tuple[str, ...]]:
    out.mkdir(parents=True, exist_ok=True)
    listing = reader.read(Path())
    lines = write_index(listing, reader.base(Path()), out / "x.parquet", out / "x.json", out / "digests.json")
    return read_index(out / "x.parquet"), lines


def extracted(reader: Reader, encoder: Encoder, out: Path, **changes: Any) -> Path:
    index, _ = indexed(reader, out)
    extract(job(reader.base(Path()), index, encoder, **changes), out / "x.zarr", out / "scratch")  # type: ignore[arg-type]
    return out / "x.zarr"


def by_path(out: Path) -> dict[tuple[str, str], bytes]:
    """Return split and path of an image -> its features."""
    store, index = ImageStore.open(out / "x.zarr"), read_index(out / "x.parquet")
    names = [(split, index.paths[row]) for split in store.splits for row in index.rows(split)]
    features = [one.tobytes() for split in store.splits for one in store.load(split).features]
    return dict(zip(names, features, strict=True))


@pytest.fixture(scope="module")
def from_folder(folder: Path, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index and the store of the folder."""
    out = tmp_path_factory.mktemp("from_folder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_store_writer, "CROPS_IN_SHARD", 64)
        extracted(reader_from({"reader": "image_folder", "path": str(folder)}, "here"), encoder, out)
    return out


@pytest.mark.parametrize("suffix", KINDS)
def test_a_store_has_the_bytes_of_that_of_the_folder(
    suffix: str, from_folder: Path, images: dict[str, bytes], encoder: Encoder, tmp_path: Path
) -> None:
    KINDS[suffix](tmp_path / f"in/photos{suffix}", images)
    reader = shards(tmp_path / "in", f"*{suffix}")
    index, _ = indexed(reader, tmp_path / "out")
    for workers in (0, 1):
        out = tmp_path / f"{workers}.zarr"
        extract(job(tmp_path / "in", index, encoder, workers=workers), out, tmp_path / "scratch")
        assert contents(out) == contents(from_folder / "x.zarr")
    assert not [*tmp_path.rglob("*.png")]  # nothing is unpacked


@pytest.mark.parametrize("suffix", KINDS)
def test_images_dealt_to_several_archives_have_the_splits_and_the_features_of_the_folder(
    suffix: str, from_folder: Path, images: dict[str, bytes], encoder: Encoder, tmp_path: Path
) -> None:
    for number, part in enumerate(dealt(images, 4)):
        KINDS[suffix](tmp_path / f"in/{number:03}{suffix}", part)
    extracted(shards(tmp_path / "in", f"{{000..003}}{suffix}"), encoder, tmp_path / "out")
    stores = {"folder": by_path(from_folder), "archives": by_path(tmp_path / "out")}
    assert stores["archives"].keys() == stores["folder"].keys()
    for path, features in stores["archives"].items():
        # Not the bytes: other images share their batches.
        near = np.frombuffer(features, np.float16) - np.frombuffer(stores["folder"][path], np.float16)
        assert np.abs(near).max() < 5e-3


def test_an_index_row_names_archive_position_and_sha256(images: dict[str, bytes], tmp_path: Path) -> None:
    write_tar(tmp_path / "in/a.tar", images)
    index, _ = indexed(shards(tmp_path / "in", "a.tar"), tmp_path / "out")
    refs = [index.image(row) for row in range(COUNT)]
    assert [ref.place and ref.place.archive for ref in refs] == ["a.tar"] * COUNT
    whole = (tmp_path / "in/a.tar").read_bytes()
    for ref in refs:
        assert ref.place is not None
        assert whole[ref.place.position : ref.place.position + ref.size] == images[ref.path]
    assert ImageSource(tmp_path / "in").read(refs) == [images[path] for path in index.paths]


def test_part_of_an_index_keeps_places_and_reading(images: dict[str, bytes], tmp_path: Path) -> None:
    write_tar(tmp_path / "in/a.tar", images)
    index, _ = indexed(shards(tmp_path / "in", "a.tar"), tmp_path / "out")
    part = index.part(range(10, 20))
    assert [part.image(row) for row in range(10)] == [index.image(row) for row in range(10, 20)]
    assert part.reading == index.reading
    assert index.reading.upright


def listed(images: Mapping[str, bytes], tmp_path: Path, **options: Any) -> Listing:
    write_tar(tmp_path / "in/a.tar", images)
    return shards(tmp_path / "in", "a.tar", **options).read(Path())


def labels(listing: Listing) -> dict[str, str]:
    return {image.path: listing.classes[image.class_id] for image in listing.images}


def test_labels_beside_an_image_win_over_its_folder(images: dict[str, bytes], tmp_path: Path) -> None:
    one, two, three = [*images.values()][:3]
    told = {"label": "tern", "split": "test", "caption": "x"}
    members = {"0.cls": b"wren\n", "0.png": one, "1.json": json.dumps(told).encode(), "1.png": two}
    listing = listed({**members, "wren/2.png": three, "README": b"about"}, tmp_path)
    assert labels(listing) == {"0.png": "wren", "1.png": "tern", "wren/2.png": "wren"}
    assert [image.split for image in listing.images if image.path == "1.png"] == ["test"]
    assert [path for path, _ in listing.passed_over] == ["a.tar/README"]


def test_numbers_get_the_names_of_a_file_beside_the_archives(images: dict[str, bytes], tmp_path: Path) -> None:
    one, two, *_ = images.values()
    (tmp_path / "in").mkdir()
    (tmp_path / "in/classnames.txt").write_text("okapi\nwren\n", encoding="utf-8")
    members = {"0.cls": b"1", "0.png": one, "1.cls": b"0", "1.png": two}
    listing = listed(members, tmp_path, class_names="classnames.txt")
    assert labels(listing) == {"0.png": "wren", "1.png": "okapi"}
    assert [*listed({**members, "1.cls": b"7"}, tmp_path, class_names="classnames.txt").faults]


def test_splits_are_those_of_the_archives_names(images: dict[str, bytes], tmp_path: Path) -> None:
    for name, part in zip(("train-000", "train-001", "validation-000"), dealt(images, 3), strict=True):
        write_tar(tmp_path / f"in/{name}.tar", part)
    listing = shards(tmp_path / "in", "*.tar", splits="shards").read(Path())
    sides = {image.path: image.split for image in listing.images}
    assert {sides[path] for path in dealt(images, 3)[2]} == {"test"}  # no test images are given
    assert {sides[path] for path in dealt(images, 3)[0]} == {"train", "val"}


def test_an_archive_of_no_split_an_unknown_split_and_repeated_names_are_faults(
    images: dict[str, bytes], tmp_path: Path
) -> None:
    write_tar(tmp_path / "in/train-0.tar", images)
    write_tar(tmp_path / "in/other.tar", images)
    faults = shards(tmp_path / "in", "*.tar", splits="shards").read(Path()).faults
    assert [("other.tar" in fault, "naming: shard" in fault) for fault in faults] == [(True, False), (False, True)]
    assert shards(tmp_path / "in", "*.tar", naming="shard").read(Path()).faults == ()


def test_copies_in_two_archives_get_one_split(images: dict[str, bytes], tmp_path: Path) -> None:
    write_tar(tmp_path / "in/a.tar", images)
    write_tar(tmp_path / "in/b.tar", {f"again/{path}": data for path, data in images.items()})
    index, lines = indexed(shards(tmp_path / "in", "*.tar", naming="shard"), tmp_path / "out")
    sides: dict[str, set[str]] = {}
    for digest, split in zip(index.sha256, index.splits, strict=True):
        sides.setdefault(digest, set()).add(split)
    assert {len(found) for found in sides.values()} == {1}
    assert len(index.duplicates) == COUNT
    assert any(f"{COUNT} images are copies" in line for line in lines)


def test_an_archive_is_read_once_until_it_changes(
    images: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, part in enumerate(dealt(images, 3)):
        write_tar(tmp_path / f"in/{number}.tar", part)
    read: list[str] = []
    original = scan.scan

    def counted(base: Path | str, archive: Any, out: Path, max_pixels: int) -> None:
        read.append(archive.name)
        original(base, archive, out, max_pixels)

    monkeypatch.setattr(scan, "scan", counted)
    reader = shards(tmp_path / "in", "*.tar")
    index, _ = indexed(reader, tmp_path / "out")
    first = (tmp_path / "out/x.parquet").read_bytes()
    indexed(reader, tmp_path / "out")
    assert sorted(read) == ["0.tar", "1.tar", "2.tar"]
    assert (tmp_path / "out/x.parquet").read_bytes() == first

    def changes() -> Any:
        archives, _ = find_archives(tmp_path / "in", "*.tar")
        return changed_archives(index, archives, lambda archive: scan_file(tmp_path / "in", archive).exists())

    assert not changes()
    write_tar(tmp_path / "in/1.tar", {**dealt(images, 3)[1], "wren/new.png": b"new"})
    assert changes().replaced == ["1.tar"]
    (tmp_path / "in/2.tar").unlink()
    assert changes().removed == ["2.tar"]


def test_changed_archives_and_members_stop_an_extraction(
    images: dict[str, bytes], encoder: Encoder, tmp_path: Path
) -> None:
    archive = write_tar(tmp_path / "in/a.tar", images)
    index, _ = indexed(shards(tmp_path / "in", "*.tar"), tmp_path / "out")
    whole = bytearray(archive.read_bytes())
    place = index.image(0).place
    assert place is not None
    whole[place.position + 40] ^= 1
    archive.write_bytes(whole)
    with pytest.raises(InputError, match=index.paths[0]):
        extract(job(tmp_path / "in", index, encoder), tmp_path / "x.zarr", tmp_path / "scratch")
    archive.write_bytes(whole[:-1024])
    with pytest.raises(InputError, match=r"a\.tar"):
        extract(job(tmp_path / "in", index, encoder), tmp_path / "x.zarr", tmp_path / "scratch")


def hostile_tar(file: Path, image: bytes) -> Path:
    """Write a tar with one good image, and members that want to get out or to be followed."""
    with tarfile.open(file, "w", format=tarfile.GNU_FORMAT) as tar:
        for name in ("wren/good.png", "../../out.png", "/etc/out.png", "wren/../../out.png", "wren/two.png"):
            info = tarfile.TarInfo(name)
            info.size = len(image)
            tar.addfile(info, io.BytesIO(image))
        for name, kind in (("wren/link.png", tarfile.SYMTYPE), ("wren/pipe.png", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    return file


def test_members_that_lead_out_of_an_archive_and_links_are_passed_over(
    images: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    hostile_tar(tmp_path / "in/a.tar", next(iter(images.values())))
    listing = shards(tmp_path / "in", "*.tar").read(Path())
    assert [image.path for image in listing.images] == ["wren/good.png", "wren/two.png"]
    assert len(listing.passed_over) == 5


def test_hidden_folders_and_those_of_a_system_in_a_tar_are_passed_over(
    images: dict[str, bytes], tmp_path: Path
) -> None:
    image = next(iter(images.values()))
    names = ("wren/1.png", "__MACOSX/wren/1.png", "wren/@eaDir/1.png", "wren/.thumbs/1.png")
    listing = listed(dict.fromkeys(names, image), tmp_path)
    assert labels(listing) == {"wren/1.png": "wren"}
    assert [path for path, _ in listing.passed_over] == [f"a.tar/{name}" for name in names[1:]]


def claims(size: int) -> bytes:
    """Return the header of a long name that claims `size` bytes."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: claims(1 << 40) + whole,
        lambda whole: b"\x1f\x8b" + whole,
        lambda whole: whole[:0],
        lambda whole: whole[:300],
    ],
    ids=["truncated", "claims", "gzip", "empty", "short"],
)
def test_a_damaged_tar_is_an_error_that_names_it(
    damage: Callable[[bytes], bytes], images: dict[str, bytes], tmp_path: Path
) -> None:
    archive = write_tar(tmp_path / "in/a.tar", images)
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(InputError, match=r"a\.tar"):
        shards(tmp_path / "in", "*.tar").read(Path())


def test_damaged_tables_and_tables_without_images_are_errors(images: dict[str, bytes], tmp_path: Path) -> None:
    for suffix in (".parquet", ".arrow"):
        whole = KINDS[suffix](tmp_path / f"in/a{suffix}", images).read_bytes()
        (tmp_path / f"in/a{suffix}").write_bytes(whole[: len(whole) // 2])
    pq.write_table(pa.table({"image": ["a.png"], "label": ["wren"]}), tmp_path / "in/b.parquet")
    (tmp_path / "in/c.tar.gz").write_bytes(b"")
    with pytest.raises(InputError) as error:
        shards(tmp_path / "in", "*.*").read(Path())
    assert all(name in str(error.value) for name in ("a.parquet", "a.arrow", "b.parquet", "c.tar.gz"))


@pytest.mark.parametrize("pattern", ["../a.tar", "/a.tar", "{..,b}/a.tar", "{0..999999999999}.tar", "{a}.tar"])
def test_patterns_that_leave_the_folder_or_explode_are_errors(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shards"):
        find_archives(tmp_path, pattern)


def test_braces_are_expanded_as_by_the_shell() -> None:
    assert expand_braces("{a,b}-{08..11}.tar")[:5] == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar", "b-08.tar"]


def test_a_missing_archive_of_a_pattern_is_named(images: dict[str, bytes], tmp_path: Path) -> None:
    write_tar(tmp_path / "in/0.tar", images)
    assert any("1.tar" in fault for fault in shards(tmp_path / "in", "{0..1}.tar").read(Path()).faults)


def test_images_without_labels_are_an_error_with_examples(images: dict[str, bytes], tmp_path: Path) -> None:
    write_tar(tmp_path / "in/a.tar", {"1.png": next(iter(images.values()))})
    with pytest.raises(InputError, match=r"a\.tar/1\.png"):
        shards(tmp_path / "in", "*.tar").read(Path())


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with s3_files(monkeypatch) as files:
        yield files


@pytest.mark.system
def test_archives_in_a_bucket_give_the_bytes_of_the_folder(
    bucket: Any, from_folder: Path, images: dict[str, bytes], encoder: Encoder, tmp_path: Path
) -> None:
    for suffix, write in KINDS.items():
        bucket.put_file(str(write(tmp_path / f"in/a{suffix}", images)), f"team/birds{suffix}/train/a{suffix}")
        reader = shards(f"s3://team/birds{suffix}", f"**/*{suffix}")
        store = extracted(reader, encoder, tmp_path / f"out{suffix}", workers=1)
        assert contents(store) == contents(from_folder / "x.zarr")

    index = read_index(tmp_path / "out.tar/x.parquet")
    bucket.pipe_file("team/birds.tar/train/a.tar", b"other")
    archives, _ = find_archives("s3://team/birds.tar", "**/*.tar")
    assert changed_archives(index, archives, lambda one: scan_file("s3://team/birds.tar", one).exists()).replaced
    bucket.rm_file("team/birds.tar/train/a.tar")
    with pytest.raises(InputError, match="no such file"):
        extract(job("s3://team/birds.tar", index, encoder), tmp_path / "x.zarr", tmp_path / "scratch")  # type: ignore[arg-type]
