"""The feature store: it reads what it wrote, its bytes depend on its content alone, and all damage is found."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from pictures import contents, make_images
from small_image_store import DIM, random_features, small_shards, write  # noqa: F401 (a fixture of all tests here)
from zarr.codecs import Crc32cCodec

from features.errors import InputError
from features.formats.files import MARK
from features.image_store import writer as image_store_writer
from features.image_store.provenance import with_checksum
from features.image_store.store import META, ImageStore
from features.image_store.writer import index_sha256, plan_shards
from features.index_table import Index

COUNTS = {"train": 37, "val": 0, "test": 70}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return make_images(tmp_path_factory.mktemp("images"), COUNTS)  # type: ignore[arg-type]


def test_a_store_reads_what_was_written(index: Index, tmp_path: Path) -> None:
    store = ImageStore.open(write(tmp_path / "a.zarr", index))
    store.verify()
    train, val, test = (store.load(split) for split in store.splits)
    assert (train.features.shape, train.features.dtype) == ((37, 3, DIM), np.float16)
    assert (val.features.shape, test.features.shape) == ((0, 1, DIM), (70, 1, DIM))
    assert np.array_equal(train.features, np.concatenate([random_features(n, 3) for n in (16, 16, 5)]))
    assert np.array_equal(test.features, np.concatenate([random_features(n, 1) for n in (64, 6)]))
    assert np.array_equal(np.concatenate([train.labels, test.labels]), index.class_ids)
    assert train.valid.all()
    assert (train.labels.dtype, train.valid.dtype) == (np.int32, bool)
    assert store.load("train") is train
    for datum in ("37 images x 3 crops", "encoder tiny", "area 0.5 to 1", "3 classes"):
        assert datum in store.info()


def test_a_store_may_have_no_training_images(tmp_path: Path) -> None:
    only_test = make_images(tmp_path / "images", {"train": 0, "val": 0, "test": 5})
    store = ImageStore.open(write(tmp_path / "a.zarr", only_test), verify=True)
    assert store.load("train").features.shape == (0, 3, DIM)
    assert store.load("test").features.shape == (5, 1, DIM)


def test_zarr_reads_the_layout_and_would_write_the_same_bytes(index: Index, tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", index)
    group = zarr.open_group(path, mode="r")
    array = group["train/features"]
    assert (array.chunks, array.shards) == ((2, 3, DIM), (16, 3, DIM))
    assert array.metadata.zarr_format == 3
    assert array.compressors == (Crc32cCodec(),)
    layout = {"shape": array.shape, "chunks": array.chunks, "shards": array.shards}
    again = zarr.create_array(tmp_path / "again", **layout, dtype="f2", compressors=Crc32cCodec())
    again[...] = array[...]
    assert contents(path / "train/features/c") == contents(tmp_path / "again/c")
    sizes = [len((path / f"train/features/c/{number}/0/0").read_bytes()) for number in range(3)]
    chunk = 2 * 3 * DIM * 2 + 4  # with its checksum
    assert sizes == [8 * chunk + 8 * 16 + 4] * 2 + [3 * chunk + 8 * 16 + 4]  # chunks, their index, its checksum


def test_the_same_input_gives_the_same_bytes_without_paths_of_the_machine(index: Index, tmp_path: Path) -> None:
    first, second = (
        contents(write(tmp_path / name / "a.zarr", index)) for name in ("one", "two") if mkdir(tmp_path / name)
    )
    assert first == second
    assert str(tmp_path).encode() not in b"".join(first.values())
    meta = json.loads(first[META])
    assert meta["index_sha256"] == index_sha256(index)
    assert meta["rows"] == COUNTS
    assert set(meta["files"]) == set(first) - {META, MARK}


def mkdir(folder: Path) -> bool:
    folder.mkdir()
    return True


def test_missing_incomplete_and_foreign_stores_are_errors(index: Index, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.zarr"):
        ImageStore.open(tmp_path / "none.zarr")
    path = write(tmp_path / "a.zarr", index)
    meta = json.loads((path / META).read_text())
    del meta["sha256"]
    for text, reason in (
        (None, r"a\.zarr.*meta\.json"),
        ("{", r"meta\.json"),
        (json.dumps({**meta, "format": "other/1"}), r"'other/1'.*'shipyard-image-features/1'"),
        (json.dumps({**meta, "dim": 6}), r"meta\.json is damaged"),
        (with_checksum(meta)[:-1], r"meta\.json is damaged"),
        (json.dumps({**meta, "dim": "5", "speed": 1}), r"(?s)dim: .*'5'.*speed: "),
        (with_checksum({**meta, "dim": 6}), r"train/features is float16 \(37, 3, 5\), not float16 \(37, 3, 6\)"),
    ):
        (path / META).unlink(missing_ok=True)
        if text is not None:
            (path / META).write_text(text)
        with pytest.raises(InputError, match=reason):
            ImageStore.open(path).load("train")


def test_an_unknown_split_is_an_error(index: Index, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'trian'.*'train'"):
        ImageStore.open(write(tmp_path / "a.zarr", index)).load("trian")  # type: ignore[arg-type]


def test_a_changed_truncated_or_missing_file_is_found(index: Index, tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", index)
    for name, data in contents(path).items():
        if name in (META, MARK):
            continue
        flipped = bytearray(data)
        flipped[len(data) // 2] ^= 1
        (path / name).write_bytes(flipped)
        with pytest.raises(InputError, match=rf"(?s)1 problem\).*{name}: "):
            ImageStore.open(path).verify()
        (path / name).write_bytes(data[:-1])
        with pytest.raises(InputError, match=f"{name}.*{len(data) - 1:,}.*{len(data):,}"):
            ImageStore.open(path)
        (path / name).unlink()
        with pytest.raises(InputError, match=f"{name} is missing"):
            ImageStore.open(path)
        (path / name).write_bytes(data)
    ImageStore.open(path).verify()


def test_another_layout_is_an_error(index: Index, tmp_path: Path) -> None:
    for number, (layout, reason) in enumerate(
        (
            ({"chunks": (2, 3, DIM), "shards": (16, 3, DIM)}, "zstd"),
            ({"chunks": (16, 3, DIM), "compressors": None}, r"\(16, 3, 5\) in shards of None"),
            (
                {"chunks": (2, 1, DIM), "shards": (16, 3, DIM), "compressors": None},
                r"\(2, 1, 5\) in shards of \(16, 3, 5\)",
            ),
        )
    ):
        path = write(tmp_path / f"{number}.zarr", index)
        shutil.rmtree(path / "train/features")
        zarr.create_array(path / "train/features", shape=(37, 3, DIM), dtype="f2", **layout)[...] = 0  # type: ignore[arg-type]
        meta = json.loads((path / META).read_text())
        kept = {name: record for name, record in meta["files"].items() if not name.startswith("train/features")}
        metadata = {key: value for key, value in meta.items() if key != "sha256"}
        (path / META).write_text(with_checksum({**metadata, "files": kept}))
        with pytest.raises(InputError, match=rf"{reason}|claims"):
            ImageStore.open(path).load("train")


def test_a_changed_byte_of_values_labels_or_mask_is_found_when_it_is_read(index: Index, tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", index)
    for name in ("features/c/0/0/0", "features/c/2/0/0", "labels/c/0", "valid/c/0"):
        file = path / "train" / name
        data = file.read_bytes()
        for at in range(0, len(data), 7):
            file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            with pytest.raises(InputError, match=name.partition("/")[0]):
                ImageStore.open(path).load("train")
        file.write_bytes(data)
    assert len(ImageStore.open(path).load("train").features) == 37


def test_a_store_without_checksums_of_an_older_version_is_read(index: Index, tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", index)
    features = ImageStore.open(path).load("train").features
    meta = json.loads((path / META).read_text())
    for name in ("features", "labels", "valid"):
        array = zarr.open_array(path / "train" / name)
        values, layout = array[...], {"chunks": array.chunks, "shards": array.shards}
        shutil.rmtree(path / "train" / name)
        zarr.create_array(path / "train" / name, data=values, **layout, compressors=None)
    files = {name: {**record, "bytes": (path / name).stat().st_size} for name, record in meta["files"].items()}
    metadata = {key: value for key, value in meta.items() if key != "sha256"}
    (path / META).write_text(with_checksum({**metadata, "files": files}))
    assert np.array_equal(ImageStore.open(path).load("train").features, features)


def test_all_damage_is_reported_at_once(index: Index, tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", index)
    shutil.rmtree(path / "test/labels/c")
    (path / "train/features/c/1/0/0").unlink()
    with pytest.raises(InputError, match=r"2 problems\)") as caught:
        ImageStore.open(path)
    assert "test/labels/c/0 is missing" in str(caught.value)
    assert "train/features/c/1/0/0 is missing" in str(caught.value)


def test_verify_finds_impossible_values_and_unexpected_files(index: Index, tmp_path: Path) -> None:
    def spoil(values: NDArray[np.float16]) -> None:
        values[3, 0, 1] = np.inf

    path = write(tmp_path / "a.zarr", index, spoil)
    with pytest.raises(InputError, match=r"(?s)train: .*3 rows.*row 3.*test: "):
        ImageStore.open(path).verify()
    (path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"notes\.txt"):
        ImageStore.open(path).verify()
    meta = json.loads((path / META).read_text())
    del meta["sha256"]
    (path / "notes.txt").unlink()
    (path / META).write_text(with_checksum({**meta, "classes": 2}))
    with pytest.raises(InputError, match=r"train: 12 labels.*0 to 1"):
        ImageStore.open(path).verify()


def test_shard_keys_depend_on_paths_and_contents_of_their_images(index: Index) -> None:
    shards = plan_shards(index, 3)
    assert [(shard.split, shard.number, len(shard.rows)) for shard in shards] == [
        ("train", 0, 16),
        ("train", 1, 16),
        ("train", 2, 5),
        ("test", 0, 64),
        ("test", 1, 6),
    ]
    assert [row for shard in shards for row in shard.rows] == list(range(107))
    assert (
        len({shard.key for shard in [*shards, *plan_shards(index, 2)]}) == len(shards) + len(plan_shards(index, 2)) - 2
    )
    hashes = list(index.sha256)
    hashes[20] = "f" * 64
    other = plan_shards(Index(index.paths, index.class_ids, index.splits, index.sizes, tuple(hashes)), 3)
    assert [a.key == b.key for a, b in zip(shards, other, strict=True)] == [True, False, True, True, True]


def test_a_failed_write_leaves_the_earlier_store(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.zarr", index)
    before = contents(path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_store_writer, "_link", full)
    with pytest.raises(InputError, match=r"a\.zarr: No space left on device"):
        write(path, index)
    assert contents(path) == before
    assert not list(tmp_path.glob(".*"))


def test_shards_are_copied_if_they_cannot_be_linked(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked = contents(write(tmp_path / "a.zarr", index))
    link = os.link

    def within_one_folder(source: Path, target: Path) -> None:
        if source.parent != target.parent:
            raise OSError(18, "Invalid cross-device link")
        link(source, target)  # zarr itself renames its files by a link

    monkeypatch.setattr(os, "link", within_one_folder)
    assert contents(write(tmp_path / "b.zarr", index)) == linked
