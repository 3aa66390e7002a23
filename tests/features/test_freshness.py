"""A folder of own images is compared with its index by names, sizes and times."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from pictures import picture

from features.datasets.base import Listing, reader_from
from features.freshness import Changes, changes_since
from features.index import write_index
from features.index_table import read_index

SPEC = {"reader": "image_folder", "path": "photos"}


def read(root: Path, **options: object) -> Listing:
    return reader_from({**SPEC, **options}, "test").read(root)


def changes(root: Path, **options: object) -> Changes:
    return changes_since(read_index(root / "i.parquet"), read(root, **options), root / "photos", root / "digests.json")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(12):
        file = tmp_path / f"photos/{'cat' if number % 2 else 'dog'}/{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(file)
    folder, cache = tmp_path / "photos", tmp_path / "digests.json"
    write_index(read(tmp_path), folder, tmp_path / "i.parquet", tmp_path / "i.json", cache)
    return tmp_path


def test_nothing_changed(root: Path) -> None:
    assert not changes(root)
    assert not changes(root, unseen=["owl"]), "a name is no image; DVC tracks the file with the names"


def test_added_removed_and_replaced_images_are_named(root: Path) -> None:
    picture(99).save(root / "photos/cat/new.png")
    (root / "photos/dog/0.png").unlink()
    same_size = root / "photos/dog/2.png"
    data = bytearray(same_size.read_bytes())
    data[-20] ^= 1
    same_size.write_bytes(data)
    os.utime(same_size, ns=(1, 1))
    found = changes(root)
    assert (found.added, found.removed, found.replaced) == (["cat/new.png"], ["dog/0.png"], ["dog/2.png"])
    assert "cat/new.png" in str(found)
    (root / "digests.json").unlink()
    assert changes(root).replaced == [], "only times tell, and a colleague has none"


def test_other_labels_and_splits_of_the_same_files_are_a_change(root: Path) -> None:
    assert changes(root, rename={"cat": "wild cat"}).relabelled
    assert changes(root, split_seed=1).relabelled


def test_copies_that_were_moved_to_one_split_are_no_change(tmp_path: Path) -> None:
    for number in range(30):
        file = tmp_path / f"photos/cat/{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(number % 3).save(file)
    folder, cache = tmp_path / "photos", tmp_path / "digests.json"
    lines = write_index(read(tmp_path), folder, tmp_path / "i.parquet", tmp_path / "i.json", cache)
    assert len(lines) == 2
    index = read_index(tmp_path / "i.parquet")
    assert len(index.duplicates) == 3
    assert {*index.splits} == {"train"}
    assert not changes(tmp_path)


def test_ten_thousand_files_are_compared_in_half_a_second_of_work(tmp_path: Path) -> None:
    (tmp_path / "photos/cat").mkdir(parents=True)
    picture(0).save(tmp_path / "one.png")
    for number in range(10_000):
        os.link(tmp_path / "one.png", tmp_path / f"photos/cat/{number}.png")
    folder, cache = tmp_path / "photos", tmp_path / "digests.json"
    write_index(read(tmp_path), folder, tmp_path / "i.parquet", tmp_path / "i.json", cache)
    start = time.process_time()
    assert not changes(tmp_path)
    assert time.process_time() - start < 2, "0.5 s; 100,000 files in 5 s"
