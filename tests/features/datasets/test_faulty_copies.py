"""Copies of data sets with several faults each: all faults of all data sets are reported together."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import layouts
import pytest
from layouts import TREES, touch
from project_root import ROOT
from ruamel.yaml import YAML

from features.datasets.base import reader_from
from features.errors import InputError, Problems
from features.listing_checks import mistakes
from features.splits.imagenet_classes import wordnet_ids
from pipeline.cli import check
from pipeline.config import params


def faults_of(root: Path, name: str, **spec: Any) -> str:
    """Return the text that stage `index` and `shipyard check` report of a copy."""
    problems = Problems()
    listing = problems.attempt(lambda: reader_from({"reader": name, **spec}, "here").read(root))
    return "\n".join([*problems.messages, *(mistakes(listing) if listing else ())])


def assert_reported(text: str, *faults: str) -> None:
    assert [fault for fault in faults if fault not in text] == []


def test_a_damaged_split_a_missing_image_an_extra_class_and_other_counts(tmp_path: Path) -> None:
    layouts.caltech101(tmp_path)
    split: dict[str, list[Any]] = json.loads(json.dumps(layouts.CALTECH))
    split["test"] += [["Faces/image_0009.jpg", "0", "face"], ["Yo/image_0001.jpg", 3, "yo-yo"]]
    (tmp_path / "caltech-101/split_zhou_Caltech101.json").write_text(json.dumps(split), encoding="utf-8")
    (tmp_path / "caltech-101/101_ObjectCategories/Faces/image_0002.jpg").unlink()
    text = faults_of(tmp_path, "caltech101")
    assert_reported(text, "test[1]: ['Faces/image_0009.jpg', '0', 'face']", "0 to 2")
    assert_reported(
        text,
        "- Faces/image_0002.jpg",
        "- Yo/image_0001.jpg",
        "train: 2, published: 4,128",
        "classes: 3, ",
    )


def test_with_an_unreadable_split_missing_images_are_those_of_the_packaged_one(tmp_path: Path) -> None:
    layouts.eurosat(tmp_path)
    (tmp_path / "eurosat/split_zhou_EuroSAT.json").write_text("{")
    assert_reported(faults_of(tmp_path, "eurosat"), "split_zhou_EuroSAT.json", "- AnnualCrop/AnnualCrop_2999.jpg")


@pytest.mark.parametrize("name", ["food101", "sun397"])
def test_no_images_and_no_split(name: str, tmp_path: Path) -> None:
    assert_reported(
        faults_of(tmp_path, name),
        f"{tmp_path}/",
        f"shipyard data get {name}",
        "split_zhou_",
        "https://drive.google.com",
    )


def test_a_zero_shot_split_that_cannot_be_read_and_a_missing_image(tmp_path: Path) -> None:
    layouts.sun(tmp_path)
    image = next((tmp_path / "SUN/images").rglob("*.jpg"))
    image.unlink()
    (tmp_path / "SUN/att_splits.mat").write_bytes(b"<html>")
    missing = f"- {image.relative_to(tmp_path / 'SUN/images').as_posix()}"
    assert_reported(faults_of(tmp_path, "sun"), "att_splits.mat", missing)
    (tmp_path / "SUN/res101.mat").write_bytes(b"<html>")
    assert_reported(faults_of(tmp_path, "sun"), "att_splits.mat", "res101.mat")


def test_a_zero_shot_split_of_other_images_and_a_missing_image(tmp_path: Path) -> None:
    layouts.sun(tmp_path)
    next((tmp_path / "SUN/images").rglob("*.jpg")).unlink()
    layouts.write_mat(tmp_path / "SUN/att_splits.mat", {**layouts.LOCS, "trainval_loc": [2, 9]})
    assert_reported(faults_of(tmp_path, "sun"), "trainval_loc: 9 ", "1 to 5", ".jpg")


def test_aircraft_without_its_names_and_with_a_missing_image(tmp_path: Path) -> None:
    layouts.fgvc_aircraft(tmp_path)
    (tmp_path / "fgvc_aircraft/images/0000003.jpg").unlink()
    (tmp_path / "fgvc_aircraft/variants.txt").unlink()
    (tmp_path / "fgvc_aircraft/images_variant_test.txt").write_bytes(b"\xff")
    text = faults_of(tmp_path, "fgvc_aircraft")
    assert_reported(text, "variants.txt", "images_variant_test.txt", "- 0000003.jpg")
    assert_reported(text, "train: 2, published: 3,334")


@pytest.mark.parametrize(("actual_form", "option"), [("NFD", "--nfc"), ("NFC", "--nfd")])
def test_a_file_whose_name_differs_in_the_form_of_its_accents(tmp_path: Path, actual_form: str, option: str) -> None:
    """Copies made on macOS have such names, which look right."""
    name, asked = (
        unicodedata.normalize(form, "crème.jpg") for form in (actual_form, "NFC" if actual_form == "NFD" else "NFD")
    )
    touch(tmp_path / "mine", [name])
    (tmp_path / "mine/labels.csv").write_text(f"path,label\n{asked},dessert\n", encoding="utf-8")
    assert_reported(faults_of(tmp_path, "image_table", path="mine"), f"({asked})", f"(Unicode {actual_form}", option)
    layouts.food101(tmp_path)
    folder = tmp_path / "food-101/images"
    (folder / "crème_brûlée").rename(folder / unicodedata.normalize("NFD", "crème_brûlée"))
    assert_reported(faults_of(tmp_path, "food101"), "- crème_brûlée/7.jpg: ", f"--nfc --notest {folder}")


def test_imagenet_with_strange_missing_and_nameless_classes(tmp_path: Path) -> None:
    layouts.imagenet(tmp_path)
    touch(tmp_path / "imagenet/images/val", ["n00000000/1.JPEG"])
    (tmp_path / "imagenet/classnames.txt").write_text("n01440764 tench\n")
    text = faults_of(tmp_path, "imagenet")
    last = wordnet_ids("imagenet")[-1]
    assert text.count(f"- {last}: missing") == 2, "of training and of validation images"
    assert_reported(text, "- n00000000: ", f"no name for {last}")
    for part in ("train", "val"):
        (tmp_path / "imagenet/images" / part).rename(tmp_path / part)
    (tmp_path / "imagenet/images/x").mkdir()
    assert_reported(faults_of(tmp_path, "imagenet"), "images/train", "images/val", f"no name for {last}")


def test_a_test_set_of_imagenet_with_strange_missing_and_nameless_classes(tmp_path: Path) -> None:
    layouts.imagenetv2(tmp_path)
    touch(tmp_path / "imagenetv2/imagenetv2-matched-frequency-format-val", ["1000/1.jpeg"])
    (tmp_path / "imagenetv2/classnames.txt").write_text("n01440764 tench\n")
    text = faults_of(tmp_path, "imagenetv2")
    assert_reported(text, "- 1000: ", "- 998: missing", "no name for n15075141")
    assert_reported(text, "test: 3, published: 10,000")


def test_one_image_a_class_with_strange_and_missing_ones(tmp_path: Path) -> None:
    layouts.imagenet_sample(tmp_path)
    touch(tmp_path / "imagenet-sample", ["owl.jpg"])
    assert_reported(faults_of(tmp_path, "imagenet_sample"), "'owl.jpg'", "- n15075141", "test: 2, ")


def test_a_table_with_bad_rows_missing_files_and_options_that_do_not_fit(tmp_path: Path) -> None:
    layouts.image_table(tmp_path)
    with (tmp_path / "mine/labels.csv").open("a", encoding="utf-8") as file:
        file.write("\r\nabsent.jpg,okapi\r\n3.jpg,\r\n../x.jpg,quokka\r\n")
    touch(tmp_path, ["x.jpg"])
    text = faults_of(tmp_path, "image_table", path="mine", rename={"okapy": "x"})
    assert_reported(text, "row 11 (absent.jpg)", "row 13 (../x.jpg)", "'okapy'")
    assert_reported(text, "not below")


def test_a_partial_copy_of_another_split_is_refused_all_the_same(tmp_path: Path) -> None:
    spec = layouts.oxford_pets(tmp_path)
    (tmp_path / "oxford_pets/images/pug_3.jpg").unlink()
    text = faults_of(tmp_path, "oxford_pets", **spec, allow_partial=True)
    assert_reported(text, "images: 6, published: 7,349", "classes: 2, published: 37")


# All data sets together


def grid(names: list[str], root: Path, specs: Mapping[str, Any]) -> params.Params:
    values = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["grid"]["datasets"] = names
    values["data"] = {"root": str(root), "sets": {**values["data"]["sets"], **specs}}
    return params.Params.model_validate(values)


def test_the_faults_of_all_data_sets_and_the_mistakes_of_all_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where nothing is indexed yet
    names = ["caltech101", "sun", "food101"]
    for name in names[:2]:
        TREES[name](tmp_path)
    (tmp_path / "caltech-101/101_ObjectCategories/Faces/image_0001.jpg").unlink()
    (tmp_path / "SUN/att_splits.mat").unlink()
    settings = grid(names, tmp_path, {"dtd": {"reader": "dtd", "pth": "x"}})
    wrong = settings.model_copy(update={"grid": settings.grid.model_copy(update={"datasets": [*names, "dtd"]})})
    with pytest.raises(InputError) as error:
        check.check_all([settings, wrong])
    text = str(error.value)
    assert_reported(
        text, "- Faces/image_0001.jpg", "train: 2, ", "res101.mat and att_splits.mat", f"{tmp_path}/food-101"
    )
    assert_reported(text, "pth: ", "'path'")
    assert text.count("- Faces/image_0001.jpg") == 1, "two runs of one data set look at it once"


def test_what_is_indexed_needs_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = grid(["caltech101"], tmp_path, {})
    with pytest.raises(InputError, match="dvc pull"):
        check.check_data([settings])
    touch(tmp_path, ["artifacts/index/caltech101.parquet"])
    check.check_data([settings])
