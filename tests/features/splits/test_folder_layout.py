"""What folders mean: splits under any usual name, classes, and what a person is asked about."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.errors import InputError
from features.splits.folder_layout import (
    ask_about_levels,
    has_split_folders,
    holds_boxes,
    near_split,
    split_folders,
    split_of,
)
from features.splits.image_files import Found, find_images


def folders(root: Path, *names: str) -> Found:
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "1.jpg").touch()
    return find_images(root)


def crossed(*splits: str) -> list[str]:
    return [f"{split}/{name}" for split in splits for name in ("cat", "dog")]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("Train", "train"), ("training", "train"), ("valid", "val"), ("Validation", "val"), ("dev", "val")),
        *(("testing", "test"), ("TEST", "test"), ("test-set", "test"), ("train2017", "train"), ("cat", None)),
        *(("train_images", "train"), ("Test Data", "test"), ("train cars", None), ("images", None)),
    ],
)
def test_names_of_splits(name: str, split: str | None) -> None:
    assert split_of(name) == split


@pytest.mark.parametrize("name", ["Tset", "trian", "vaild", "tests"])
def test_misspelled_splits_are_recognized(name: str) -> None:
    assert near_split(name)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("training", "testing"), {"training": "train", "testing": "test"}),
        (("train", "valid", "test"), {"train": "train", "valid": "val", "test": "test"}),
        (("training", "validation"), {"training": "train", "validation": "test"}),
        (("train", "dev"), {"train": "train", "dev": "test"}),
        (("train",), {"train": None}),
    ],
)
def test_usual_split_folders_are_understood(names: tuple[str, ...], expected: object, tmp_path: Path) -> None:
    found = folders(tmp_path, *crossed(*names))
    assert has_split_folders(tmp_path, found)
    splits, notes = split_folders(tmp_path, found)
    assert splits == expected
    assert bool(notes) == ({*names} != {"train", "test", "valid"} - {"valid"})


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert not has_split_folders(tmp_path, folders(tmp_path, "train", "bus"))


@pytest.mark.parametrize("other", ["Tset", "more"])
def test_another_folder_beside_splits_is_asked_about(other: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=other):
        has_split_folders(tmp_path, folders(tmp_path, *crossed("train", other)))


def test_splits_without_class_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train"):
        has_split_folders(tmp_path, folders(tmp_path, "train", "test"))


@pytest.mark.parametrize("names", [("my photos",), ("2023", "2024"), ("Tset", "vali")])
def test_folders_that_hold_only_folders_are_asked_about(names: tuple[str, ...], tmp_path: Path) -> None:
    question = ask_about_levels(tmp_path, folders(tmp_path, *crossed(*names)), splits=False)
    assert question
    assert [name for name in names if name not in question] == []
    assert "--class-from last" in question
    assert (str(tmp_path / "my photos") in question) == (names == ("my photos",))


def test_splits_one_level_too_high_are_named_with_the_folder_to_give(tmp_path: Path) -> None:
    question = ask_about_levels(tmp_path, folders(tmp_path, "export/train/cat", "export/test/cat"), splits=False)
    assert question
    assert f"--images '{tmp_path / 'export'}'" in question
    assert "--class-from" not in question, "it would mix the splits"


def test_test_images_without_classes_are_passed_over(tmp_path: Path) -> None:
    found = folders(tmp_path, *crossed("train"), "test")
    assert has_split_folders(tmp_path, found)
    assert split_folders(tmp_path, found)[0] == {"train": None}


def test_classes_with_images_of_their_own_are_not_asked_about(tmp_path: Path) -> None:
    found = folders(tmp_path, "cat", "cat/session", "dog")
    assert ask_about_levels(tmp_path, found, splits=False) is None
    (tmp_path / "below").mkdir()
    below = folders(tmp_path / "below", *crossed("train", "test"))
    assert ask_about_levels(tmp_path / "below", below, splits=True) is None


def test_boxes_of_objects_are_recognized(tmp_path: Path) -> None:
    found = folders(tmp_path, "train/images", "train/labels")
    assert not holds_boxes(found), "there are no boxes"
    (tmp_path / "train/labels/1.jpg").rename(tmp_path / "train/labels/1.txt")
    assert holds_boxes(find_images(tmp_path))
