"""Tables as people and labelling tools write them become paths, labels, splits and groups."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.datasets.base import Listing, reader_from
from features.errors import InputError
from features.listing_checks import mistakes
from features.splits.label_table import read_label_table

FILES = ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).touch()
    return tmp_path / "d"


def read(folder: Path, text: str | bytes, name: str = "t.csv") -> Listing:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return reader_from({"reader": "image_table", "path": "d", "table": name}, "test").read(folder.parent)


def labels(listing: Listing) -> dict[str, str]:
    assert listing.faults == ()
    return {image.path: listing.classes[image.class_id] for image in listing.images}


EXPECTED = {name: name[0] for name in FILES}
ROWS = [(name, name[0]) for name in FILES]


@pytest.mark.parametrize(
    "header", ["path,label", "filename,class", "image,label", "file_name,label", "Image Path,Category"]
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_usual_columns_and_delimiters(header: str, delimiter: str, folder: Path) -> None:
    lines = [header.replace(",", delimiter), *(delimiter.join(row) for row in ROWS)]
    listing = read(folder, "\n".join(lines))
    assert labels(listing) == EXPECTED
    assert bool(listing.notes) == (header != "path,label"), "how it was understood is said"


def test_exports_of_tools(folder: Path) -> None:
    lines = "".join(json.dumps({"file_name": path, "label": label}) + "\n" for path, label in ROWS)
    assert labels(read(folder, lines, "metadata.jsonl")) == EXPECTED
    coco = {
        "images": [{"id": i, "file_name": path} for i, (path, _) in enumerate(ROWS)],
        "categories": [{"id": 7, "name": "a"}, {"id": 9, "name": "b"}],
        "annotations": [
            {"image_id": i, "category_id": 7 if label == "a" else 9} for i, (_, label) in enumerate(ROWS * 2)
        ][:4],
    }
    assert labels(read(folder, json.dumps(coco), "coco.json")) == EXPECTED
    coco["annotations"].append({"image_id": 0, "category_id": 9})
    with pytest.raises(InputError, match=r"1 image .*several labels.*a/1"):
        read(folder, json.dumps(coco), "coco.json")
    studio = [
        {
            "data": {"image": f"/data/local-files/?d={path}"},
            "annotations": [{"result": [{"value": {"choices": [label]}}]}],
        }
        for path, label in ROWS
    ]
    assert labels(read(folder, json.dumps(studio), "studio.json")) == EXPECTED
    utf16 = "path\tlabel\n" + "\n".join("\t".join(row) for row in ROWS)
    assert labels(read(folder, utf16.encode("utf-16"), "excel.csv")) == EXPECTED


@pytest.mark.parametrize("convert", [str, str.encode], ids=["text", "bytes"])
def test_parquet_with_numbers_and_bytes(convert: Any, folder: Path) -> None:
    table = pa.table({"path": [convert(path) for path in FILES], "label": [3, 3, 4, None]})
    pq.write_table(table, folder / "t.parquet")
    listing = reader_from({"reader": "image_table", "path": "d", "table": "t.parquet"}, "test").read(folder.parent)
    assert listing.classes == ("3", "4")
    assert listing.faults == ()
    assert [path for path, _ in listing.passed_over] == ["b/2.jpg"]


def test_split_values_under_their_usual_names(folder: Path) -> None:
    splits = ["training", "Train", "valid", "Val"]
    listing = read(
        folder, "path,label,split\n" + "\n".join(",".join((*row, s)) for row, s in zip(ROWS, splits, strict=True))
    )
    assert {image.path: image.split for image in listing.images if image.path[0] == "b"} == {
        "b/1.jpg": "test",
        "b/2.jpg": "test",
    }
    assert any("valid" in note for note in listing.notes)


def test_rows_without_a_split_among_rows_with_one_are_counted(folder: Path) -> None:
    listing = read(folder, "path,label,split\na/1.jpg,a,train\na/2.jpg,a,test\nb/1.jpg,b,\nb/2.jpg,b,\n")
    assert any("2 of 4" in note for note in listing.notes)
    assert listing.faults == ()


def test_problems_of_one_kind_are_one_line_with_a_count_and_three_examples(folder: Path) -> None:
    rows = "".join(f"gone/x{i}.jpg,a\n" for i in range(121))
    [fault] = read(folder, "path,label\n" + rows + "a/1.jpg,a\n").faults
    assert "121 rows" in fault
    assert fault.count("gone/") == 3


def test_absolute_paths_backslashes_and_names_alone_are_understood(folder: Path) -> None:
    assert labels(read(folder, f"path,label\n{folder}/a/1.jpg,a\nb\\1.jpg,b\n")) == {"a/1.jpg": "a", "b/1.jpg": "b"}
    (folder / "3.jpg").touch()
    assert labels(read(folder, "path,label\nC:\\photos\\3.jpg,a\n")) == {"3.jpg": "a"}
    outside = folder.parent / "elsewhere.jpg"
    outside.touch()
    [fault] = read(folder, f"path,label\n{outside},a\n").faults
    assert "exists" in fault


@pytest.mark.parametrize("label", ["NA", "nan", "None", "null"])
def test_labels_that_stand_for_none_are_reported(label: str, folder: Path) -> None:
    listing = read(folder, f"path,label\na/1.jpg,a\na/2.jpg,{label}\n")
    assert label in listing.classes
    assert any(label in note and "a/2.jpg" in note for note in listing.notes)


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("id,breed\n{0},a\n{1},a\n{2},b\n{3},b\n", "labels.csv"),
        ("fname,labels,is_valid\n{0}.jpg,a,False\n{1}.jpg,a,True\n{2}.jpg,b,False\n{3}.jpg,b,True\n", "t.csv"),
        ("{0}.jpg a\n{1}.jpg a\n{2}.jpg b\n{3}.jpg b\n", "list.txt"),
        ("a,{0}.jpg,train\na,{1}.jpg,train\nb,{2}.jpg,test\nb,{3}.jpg,test\n", "no_heading.csv"),
        ("filename, a, b\n{0}.jpg, 1, 0\n{1}.jpg, 1, 0\n{2}.jpg, 0, 1\n{3}.jpg, 0, 1\n", "_classes.csv"),
        ("fname, labels, is_valid\n{0}, a, no\n{1}, a, yes\n{2}, b, no\n{3}, b, yes\n", "t.csv"),
        (",id,a,b,set\n0,{0},1,0,train\n1,{1},1,0,test\n2,{2},0,1,train\n3,{3},0,1,test\n", "t.csv"),
        ("sep=;\r\nid;label;class\r\n{0};0;a\r\n{1};0;a\r\n{2};1;b\r\n{3};1;b\r\n", "excel.csv"),
    ],
)
def test_tables_of_competitions_and_of_roboflow_are_read_with_one_line_that_says_how(
    table: str, name: str, folder: Path
) -> None:
    listing = read(folder, table.format(*(file.removesuffix(".jpg") for file in FILES)), name)
    assert labels(listing) == EXPECTED
    assert listing.notes
    given = {image.path: image.split for image in listing.images if image.path not in listing.drawn}
    assert len(given) == {"t.csv": 2, "no_heading.csv": 2}.get(name, 0)


def test_a_column_of_validation_images_is_no_class_and_other_values_in_it_are_no_split(folder: Path) -> None:
    rows = zip(FILES, ("1", "0", "maybe", ""), ("0", "1", "0", "1"), strict=True)
    listing = read(folder, "file,is_valid,defect\n" + "".join(f"{','.join(row)}\n" for row in rows))
    assert listing.classes == ("0", "1")
    [fault] = listing.faults
    assert "maybe" in fault


def test_a_class_may_be_called_camera_and_a_camera_be_a_group(folder: Path) -> None:
    listing = read(folder, "file,camera,b\na/1.jpg,1,0\na/2.jpg,1,0\nb/1.jpg,0,1\nb/2.jpg,0,1\n")
    assert (listing.classes, listing.groups) == (("b", "camera"), {})
    listing = read(folder, "file,camera,a,b\na/1.jpg,x,1,0\na/2.jpg,y,1,0\nb/1.jpg,x,0,1\nb/2.jpg,y,0,1\n")
    assert labels(listing) == EXPECTED
    assert {*listing.groups.values()} == {"x", "y"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_labels_in_lists_are_read_and_several_are_an_error(encoding: str, folder: Path) -> None:
    records = [{"path": path, "label": [label]} for path, label in ROWS]
    lines = "\n".join(map(json.dumps, records)).encode(encoding)
    assert labels(read(folder, lines, "t.jsonl")) == EXPECTED
    assert labels(read(folder, json.dumps(records).encode(encoding), "t.json")) == EXPECTED
    with pytest.raises(InputError, match=r"a/1.jpg: a, b"):
        read(folder, json.dumps([{"path": "a/1.jpg", "label": ["a", "b"]}]), "t.json")
    with pytest.raises(InputError, match="line 2"):
        read(folder, '{"path": "a/1.jpg", "label": "a"}\n{"path": ', "t.jsonl")
    with pytest.raises(InputError, match="no list of images"):
        read(folder, '["a/1.jpg", "a"]\n', "t.jsonl")


def test_the_image_of_another_row_or_of_another_folder_is_no_replacement(folder: Path) -> None:
    (folder / "c").mkdir()
    (folder / "a/9.jpg").touch()
    [fault] = read(folder, "path,label\na/1.jpg,a\nc/9.jpg,c\n").faults
    assert "c/9.jpg" in fault, "the folder exists, and holds no image"
    for rows in ("a/9.jpg,a\nd/9.jpg,a\n", "d/9.jpg,a\na/9.jpg,a\n"):
        [fault] = read(folder, f"path,label\n{rows}").faults
        assert "9.jpg" in fault
    listing = read(folder, "path,label\nd/9.jpg,a\nd/9.jpg,a\nb/1.jpg,b\n")
    assert labels(listing) == {"a/9.jpg": "a", "b/1.jpg": "b"}, "found by its name alone, and twice in the table"


def test_columns_that_are_not_read_are_named(folder: Path) -> None:
    listing = read(folder, "path,label,species,xmin\na/1.jpg,a,owl,3\nb/1.jpg,b,wren,4\n")
    assert labels(listing) == {"a/1.jpg": "a", "b/1.jpg": "b"}
    assert any("species" in note for note in listing.notes)
    assert any("boxes" in note for note in listing.notes)
    coco = {
        "images": [{"id": 0, "file_name": "a/1.jpg"}],
        "categories": [{"id": 7, "name": "a"}],
        "annotations": [{"image_id": 0, "category_id": 7, "bbox": [0, 0, 9, 9]}],
    }
    assert any("boxes" in note for note in read(folder, json.dumps(coco), "coco.json").notes)
    with pytest.raises(InputError, match="refers to 7"):
        read(folder, json.dumps({**coco, "categories": []}), "coco.json")


def test_a_caption_is_no_label(folder: Path) -> None:
    with pytest.raises(InputError, match="'label'"):
        read(folder, "file_name,text\n" + "".join(f"{name},photo {i}\n" for i, name in enumerate(FILES)))


CVAT = (
    "<annotations><meta><task><labels><label><name>a</name></label></labels></task></meta>"
    '<image id="0" name="a/1.jpg" subset="Train"><tag label="a"/><box label="b"/></image>'
    '<image id="1" name="a/2.jpg" subset="Validation"><polygon label="a"/><polygon label="a"/></image>'
    '<image id="2" name="b/1.jpg" subset="default"><tag label="b"/></image><image id="3" name="b/2.jpg"/></annotations>'
)


def test_exports_of_cvat(folder: Path) -> None:
    listing = read(folder, CVAT, "annotations.xml")
    assert labels(listing) == {"a/1.jpg": "a", "a/2.jpg": "a", "b/1.jpg": "b"}
    assert {image.path: image.split for image in listing.images}["a/2.jpg"] == "test", "validation is all there is"
    assert [path for path, _ in listing.passed_over] == ["b/2.jpg"], "it has no tag yet"
    with pytest.raises(InputError, match="entity 'x'"):
        read(folder, '<!DOCTYPE a [<!ENTITY x "y">]><annotations>&x;</annotations>', "annotations.xml")
    with pytest.raises(InputError, match=r"1 image .*a/1.jpg: a, b"):
        read(folder, CVAT.replace("<box", "<tag"), "annotations.xml")
    datumaro = {
        "categories": {"label": {"labels": [{"name": "a"}, {"name": "b"}]}},
        "items": [
            {"id": path[:-4], "annotations": [{"type": "label", "label_id": "ab".index(label)}]} for path, label in ROWS
        ],
    }
    assert labels(read(folder, json.dumps(datumaro), "default.json")) == EXPECTED


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", 'image,choice\na/1.jpg,a\na/2.jpg,"{""choices"":[""a"",""b""]}"\n'),
        ("t.json", json.dumps([{"image": "a/2.jpg", "choice": {"choices": ["a", "b"]}}])),
    ],
)
def test_several_choices_of_label_studio_are_no_class(name: str, text: str, folder: Path) -> None:
    with pytest.raises(InputError, match=r"1 image .*a/2.jpg: a, b"):
        read(folder, text, name)


def test_several_tables_are_the_splits_that_their_folders_name(folder: Path) -> None:
    for split, label in (("train", "a"), ("valid", "b"), ("test", "a")):
        (folder / split).mkdir()
        (folder / split / "0.jpg").touch()
        (folder / split / "labels.csv").write_text(f"path,label\n0.jpg,{label}\n", encoding="utf-8")
    tables = [f"{split}/labels.csv" for split in ("train", "valid", "test")]
    listing = reader_from({"reader": "image_table", "path": "d", "table": tables}, "test").read(folder.parent)
    assert {image.path: image.split for image in listing.images} == {
        "train/0.jpg": "train",
        "valid/0.jpg": "val",
        "test/0.jpg": "test",
    }


def test_a_file_is_found_by_name_if_its_folders_or_its_split_leave_one(folder: Path) -> None:
    rows = "C:\\x\\a\\1.jpg,a,train\nb/2,b,test\n"
    assert labels(read(folder, f"path,label,split\n{rows}")) == {"a/1.jpg": "a", "b/2.jpg": "b"}
    [fault] = read(folder, "path,label\n1.jpg,a\n").faults
    assert "several" in fault
    (folder / "a/3.jpg").touch()
    assert labels(read(folder, "path,label\nelsewhere/3.jpg,a\n")) == {"a/3.jpg": "a"}
    [fault] = read(folder, "path,label\nb/3.jpg,b\n").faults
    assert "no such file" in fault, "a/3.jpg is another image"
    for split in ("train", "test"):
        (folder / split).mkdir()
        (folder / split / "7.jpg").touch()
    assert labels(read(folder, "path,label,split\n7.jpg,a,train\n")) == {"train/7.jpg": "a"}


def test_names_of_files_in_another_case_are_found_if_one_file_has_them(folder: Path) -> None:
    (folder / "a/9.jpg").touch()
    assert labels(read(folder, "path,label\nA\\9.JPG,a\n")) == {"a/9.jpg": "a"}
    (folder / "a/9.JPG").touch()
    assert labels(read(folder, "path,label\n9.jpg,a\n")) == {"a/9.jpg": "a"}
    assert read(folder, "path,label\n9.Jpg,a\n").faults


def test_lines_of_commas_are_no_rows_and_commas_in_labels_need_quotes(folder: Path) -> None:
    assert labels(read(folder, "path,label\na/1.jpg,a,\n,,\n\n,\n")) == {"a/1.jpg": "a"}
    with pytest.raises(InputError, match=r"1 row .*a/2.jpg,barn owl, female"):
        read(folder, "path,label\na/1.jpg,a\na/2.jpg,barn owl, female\n")


def test_labels_of_two_unicode_forms_are_one_class_and_of_two_cases_are_a_mistake(folder: Path) -> None:
    listing = read(folder, "path,label\na/1.jpg,caf\u00e9\na/2.jpg,cafe\u0301\nb/1.jpg,b\n")
    assert listing.classes == ("b", "caf\u00e9")
    assert any("one class" in note and "e\\u0301" in note for note in listing.notes)
    assert [*mistakes(listing)] == []
    [mistake] = mistakes(read(folder, "path,label\na/1.jpg,cat\na/2.jpg,Cat\n"))
    assert "'Cat'" in mistake


def test_signs_that_are_parts_of_words_and_emoji_may_be_in_labels(folder: Path) -> None:
    name = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    listing = read(folder, f"path,label\na/1.jpg,{name}\nb/1.jpg,\u200f\u05d1\u05d6\n")
    assert listing.classes == ("\u05d1\u05d6", name)
    assert [*mistakes(listing)] == []


def test_images_beside_those_of_a_table_that_it_does_not_name_are_counted(folder: Path) -> None:
    listing = read(folder, "path,label\na/1.jpg,a\n")
    assert [path for path, _ in listing.passed_over] == ["a/2.jpg"]


def test_a_table_that_excel_saved_is_read_and_said(folder: Path) -> None:
    listing = read(folder, "path;label\na/1.jpg;caf\u00e9\n".encode("cp1252"))
    assert listing.classes == ("caf\u00e9",)
    assert any("1252" in note for note in listing.notes)


def test_two_columns_of_one_name_are_an_error(folder: Path) -> None:
    with pytest.raises(InputError, match=r"2 columns.*'label'"):
        read(folder, "path,label,label\na/1.jpg,a,b\n")


def test_repeated_rows_are_counted_and_contradictions_are_faults(folder: Path) -> None:
    listing = read(folder, "path,label\na/1.jpg,a\na/1.jpg,a\n")
    assert any("1 row " in note for note in listing.notes)
    assert list(mistakes(listing)) == []
    [fault] = read(folder, "path,label\na/1.jpg,a\na/1.jpg,b\n").faults
    assert "row 2" in fault


def test_a_group_stays_in_one_split_over_all_classes(folder: Path) -> None:
    rows = []
    for i in range(120):
        (folder / f"{i}.jpg").touch()
        rows.append(f"{i}.jpg,{'ab'[i % 2]},{i // 6}")
    listing = read(folder, "path,label,subject\n" + "\n".join(rows))
    splits: dict[str, set[str]] = {}
    for image in listing.images:
        splits.setdefault(listing.groups[image.path], set()).add(image.split)
    assert {len(found) for found in splits.values()} == {1}
    assert {image.split for image in listing.images} == {"train", "val", "test"}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"a": 1}', "path", "\0"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".parquet"])
def test_what_is_no_table_is_an_error(text: str, suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"t{suffix}").write_text(text)
    with pytest.raises(InputError, match="t\\."):
        read_label_table(tmp_path / f"t{suffix}")
