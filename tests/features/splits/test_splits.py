"""The official splits, where they lie beside the repository: published numbers, and no test image in training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from layouts import LOCS, miniature, write_mat, xian
from numpy.typing import NDArray

import features.datasets
from features.datasets.base import SPLITS, Image, Listing, Published, Reader, reader_from
from features.errors import InputError
from features.formats.matlab import MatFile
from features.listing_checks import mistakes
from features.lookup import find
from features.splits.split_zhou import SplitReader, read_split
from features.splits.xian_split import SEEN, TRAIN, UNSEEN

COOP = ("caltech101", "dtd", "eurosat", "flowers102", "oxford_pets", "stanford_cars", "ucf101")
XIAN = {  # Xian et al. 2019, Tables 1 and 2: seen and unseen classes; images in trainval, test seen, test unseen
    "cub200": ("CUB/sent_splits.mat", 150, 50, 7057, 1764, 2967),
    "awa2": ("AWA2/att_splits.mat", 40, 10, 23527, 5882, 7913),
    "sun": ("SUN/att_splits.mat", 645, 72, 10320, 2580, 1440),
    "flo": ("FLO/att_splits.mat", 82, 20, 5631, 1403, 1155),
}


def published(name: str) -> type[Published]:
    reader = find(features.datasets, name, Reader)
    assert issubclass(reader, Published)
    return reader


# CoOp's


@pytest.mark.parametrize("name", COOP)
def test_the_packaged_split_has_the_published_numbers_and_no_image_twice(name: str) -> None:
    reader = published(name)
    assert issubclass(reader, SplitReader)
    assert reader.packaged_split
    classes, rows = read_split(reader.packaged_split)
    images = tuple(Image(path, label, part) for part in SPLITS for path, label in rows[part])
    listing = Listing(images, classes, reader.published_templates(), reader.origin)
    assert list(mistakes(listing)) == [], "it must have the published counts, and no image twice"
    assert {label for _, label in rows["train"]} == set(range(len(classes)))


@pytest.mark.parametrize("name", COOP)
def test_the_packaged_split_is_the_official_one(name: str, shared: Path) -> None:
    reader = published(name)
    assert issubclass(reader, SplitReader)
    official = read_split(shared / "splits/coop" / reader.split_file)
    assert reader.packaged_split
    assert read_split(reader.packaged_split) == official


def test_the_table_of_coops_appendix(shared: Path) -> None:
    text = (shared / "papers/coop_2109.01134.txt").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if line.count("\t") == 5 and "[CLASS]" in line]
    table = {row[0].removeprefix("<b>").removesuffix("</b>"): row[1:] for row in rows}
    readers = {
        "Flowers 102": "flowers102",
        "ImageNet-Sketch": "imagenet_sketch",
        "ImageNet-A": "imagenet_a",
        "ImageNet-R": "imagenet_r",
        "OxfordPets": "oxford_pets",
        "StanfordCars": "stanford_cars",
        "FGVCAircraft": "fgvc_aircraft",
    }
    assert len(table) == 15
    for title, (classes, train, val, test, prompt) in table.items():
        reader = published(readers.get(title, title.lower()))
        counts = reader.origin.counts
        assert counts
        numbers = {"classes": classes, "train": train, "val": val, "test": test}
        for part, text in numbers.items():
            number = {"N/A": 0, "1.28M": 1_281_167}[text] if text[-1] in "AM" else int(text.replace(",", ""))
            assert getattr(counts, part) == number, (title, part)
        assert reader.published_templates() == (prompt.strip('"').replace("[CLASS]", "{}"),)


# Xian's


def locations(shared: Path, name: str) -> dict[str, NDArray[np.int64]]:
    split = MatFile(shared / "splits/xian" / XIAN[name][0], (TRAIN, SEEN, UNSEEN, "train_loc", "val_loc"))
    return {part: split.numbers(part) for part in (TRAIN, SEEN, UNSEEN, "train_loc", "val_loc")}


@pytest.mark.parametrize("name", XIAN)
def test_the_parts_of_a_zero_shot_split_have_the_published_sizes_and_no_image_twice(name: str, shared: Path) -> None:
    _, _, _, *sizes = XIAN[name]
    parts = locations(shared, name)
    assert [len(parts[part]) for part in (TRAIN, SEEN, UNSEEN)] == sizes
    together = np.concatenate([parts[part] for part in (TRAIN, SEEN, UNSEEN)])
    assert sorted(together) == list(range(1, len(together) + 1)), "every image once"
    counts = published(name).origin.counts
    assert counts
    assert (counts.train, counts.val, counts.test) == (sizes[0], 0, sizes[1] + sizes[2])


@pytest.mark.parametrize("name", XIAN)
def test_the_published_numbers_of_seen_and_unseen_classes(name: str) -> None:
    _, seen, unseen, *_ = XIAN[name]
    counts = published(name).origin.counts
    assert counts
    assert counts.classes == seen + unseen


def test_sun_sees_645_classes_and_72_not(shared: Path) -> None:
    parts = locations(shared, "sun")  # 20 images of each class, one class after the other
    assert [len({*((parts[part] - 1) // 20)}) for part in (TRAIN, SEEN, UNSEEN)] == [645, 645, 72]


def test_flo_sees_82_classes_and_20_not(shared: Path) -> None:
    parts = locations(shared, "flo")  # first come Oxford's 1,020 training images, ten of each class
    first = {part: {*((positions[positions <= 1020] - 1) // 10)} for part, positions in parts.items()}
    assert (len(first[TRAIN] | first[SEEN]), len(first[UNSEEN])) == (82, 20)


def test_awa2_sees_40_classes_and_10_not(shared: Path) -> None:
    folder = shared / "splits/xian"
    names = {*MatFile(folder / "AWA2/att_splits.mat", ["allclasses_names"]).texts("allclasses_names")}
    seen, unseen = (
        {*(folder / f"AWA2_classes/{file}.txt").read_text().split()} for file in ("trainvalclasses", "testclasses")
    )
    assert (len(seen), len(unseen), seen | unseen) == (40, 10, names)


def test_cub_sees_150_classes_and_50_not(shared: Path) -> None:
    """Images are ordered by class, at most 60 each, so a run of n images has at least n / 60 classes.

    These minimum numbers, of the seen classes' two parts and of the unseen classes, add up to all 200 classes.
    """
    parts = locations(shared, "cub200")
    assert (
        len(MatFile(shared / "splits/xian/CUB/sent_splits.mat", ["allclasses_names"]).texts("allclasses_names")) == 200
    )
    least = {part: sum(-(-length // 60) for length in runs(parts[part])) for part in ("train_loc", "val_loc", UNSEEN)}
    assert least == {"train_loc": 100, "val_loc": 50, UNSEEN: 50}
    assert {*parts["train_loc"]} | {*parts["val_loc"]} == {*parts[TRAIN]} | {*parts[SEEN]}


def runs(positions: NDArray[np.int64]) -> Iterator[int]:
    """Lengths of runs of consecutive positions."""
    ordered = np.sort(positions)
    yield from map(len, np.split(ordered, np.flatnonzero(np.diff(ordered) > 1) + 1))


def test_both_versions_of_matlabs_format_give_the_same(tmp_path: Path) -> None:
    for hdf5 in (False, True):
        root = tmp_path / str(hdf5)
        files = ["wolf/1.jpg", "wolf/2.jpg", "wolf/3.jpg", "blue+whale/1.jpg", "blue+whale/2.jpg"]
        xian(root, "Animals_with_Attributes2/JPEGImages", "mats", files, hdf5=hdf5)
        listing = reader_from({"reader": "awa2", "splits": "mats"}, "here").read(root)
        assert listing.classes == ("blue whale", "wolf")
        assert {(image.path, image.class_id, image.split) for image in listing.images} == {
            ("wolf/2.jpg", 1, "train"),
            ("wolf/3.jpg", 1, "train"),
            ("wolf/1.jpg", 1, "test"),
            ("blue+whale/1.jpg", 0, "test"),
            ("blue+whale/2.jpg", 0, "test"),
        }


@pytest.mark.parametrize("hdf5", [False, True])
def test_a_missing_variable_of_a_matlab_file_is_named(hdf5: bool, tmp_path: Path) -> None:
    xian(tmp_path, "images", "m", ["a/1.jpg", "a/2.jpg", "a/3.jpg", "b/1.jpg", "b/2.jpg"], hdf5=hdf5)
    with pytest.raises(InputError, match=r"res101\.mat .*'label'.*'labels'"):
        MatFile(tmp_path / "m/res101.mat", ["label"])
    (tmp_path / "m/res101.mat").write_bytes(b"<html>")
    with pytest.raises(InputError, match=r"res101\.mat"):
        MatFile(tmp_path / "m/res101.mat", ["labels"])


@pytest.mark.parametrize("gone", ["res101.mat", "att_splits.mat"])
@pytest.mark.parametrize("name", XIAN)
def test_a_list_without_its_split_names_the_files_to_get(name: str, gone: str, tmp_path: Path) -> None:
    spec = miniature(name, tmp_path)
    next(tmp_path.rglob(gone)).unlink()
    folder = XIAN[name][0].partition("/")[0]
    with pytest.raises(
        InputError, match=rf"(?s)res101\.mat and att_splits\.mat.*xlsa17/data/{folder}.*shipyard data get"
    ):
        reader_from({"reader": name, **spec}, "here").read(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"trainval_loc": [2, 4]}, r"class 0 .*test_unseen_loc.*trainval_loc"),
        ({"trainval_loc": [2, 9]}, r"trainval_loc: 9 .*1 to 5"),
    ],
)
def test_a_split_of_another_list_is_refused(changed: dict[str, list[int]], message: str, tmp_path: Path) -> None:
    xian(tmp_path, "SUN/images", "SUN", ["a/x/1.jpg", "a/x/2.jpg", "a/x/3.jpg", "a/y/1.jpg", "a/y/2.jpg"])
    write_mat(tmp_path / "SUN/att_splits.mat", {**LOCS, **changed})
    with pytest.raises(InputError, match=message):
        reader_from({"reader": "sun"}, "here").read(tmp_path)


def test_labels_that_do_not_fit_the_folders_are_refused(tmp_path: Path) -> None:
    xian(tmp_path, "SUN/images", "SUN", ["a/x/1.jpg", "a/y/2.jpg", "a/x/3.jpg", "a/y/1.jpg", "a/y/2.jpg"])
    with pytest.raises(InputError, match=r"(?s)label 2: 'x'.*label 2: 'y'"):
        reader_from({"reader": "sun"}, "here").read(tmp_path)
