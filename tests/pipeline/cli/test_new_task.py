"""`shipyard task new`: a folder of images becomes a task that can be run, or all problems are reported together."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from pictures import picture
from project_root import ROOT
from small_archives import dealt, write_folder, write_parquet, write_tar
from typer.testing import CliRunner, Result

from features.datasets.base import reader_from
from features.errors import InputError
from pipeline.cli import dataset_block
from pipeline.cli.app import app
from pipeline.cli.check import check
from pipeline.config import params

SHIPPED = (ROOT / "params.yaml").read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the shipped parameters and images (empty files) of three classes in data/."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(SHIPPED, encoding="utf-8")
    Path("assets").symlink_to(ROOT / "assets")
    for name in ("kestrel", "tern", "wren"):
        (tmp_path / "data/birds" / name).mkdir(parents=True)
        for i in range(10 if name == "wren" else 20):
            (tmp_path / "data/birds" / name / f"{i}.jpg").touch()
    Path("names.txt").write_text("barn owl\nwren\n", encoding="utf-8")
    return tmp_path


def new(*options: str) -> Result:
    return CliRunner().invoke(app, ["task", "new", "mybirds", *options])


def test_a_folder_and_class_names_become_a_data_set_and_a_task(project: Path) -> None:
    result = new("--images", "data/birds", "--unseen", "names.txt", "--shots", "2")
    assert result.exit_code == 0, result.exception
    assert re.search(r"\b2 classes\b.*\b10 test images", result.output)
    assert result.output.rstrip().endswith("shipyard run mybirds")
    text = params.read()
    added = [line for line in text.splitlines() if line not in SHIPPED.splitlines()]
    assert [line for line in text.splitlines() if line not in added] == SHIPPED.splitlines()
    assert added == [
        "    mybirds: {reader: image_folder, path: birds, unseen: classes/mybirds.txt}",
        "  mybirds: {protocol: own_images, shots: 2}",
    ]
    listing = reader_from(params.parse_text(text).data.sets["mybirds"], "mybirds").read(Path("data"))
    assert listing.classes == ("kestrel", "tern", "wren", "barn owl")
    assert {image.split for image in listing.images if image.class_id == 2} == {"test"}


def test_all_options_reach_params_yaml(project: Path) -> None:
    Path("aliases.csv").write_text("label,name\ntern,arctic tern\n", encoding="utf-8")
    Path("about.csv").write_text('name,description\narctic tern,"white, with a black cap"\n', encoding="utf-8")
    Path("data/birds/all.csv").write_text(
        "path,label\n" + "".join(f"{name}/{i}.jpg,{name}\n" for name in ("tern", "wren") for i in range(5)), "utf-8"
    )
    template = "a photo of a {}, a type of bird."
    options = ["--aliases", "aliases.csv", "--descriptions", "about.csv", "--template", template, "--split-seed", "3"]
    assert new("--images", "data/birds/all.csv", *options).exit_code == 0
    current = params.load()
    assert current.tasks["mybirds"] == {"protocol": "own_images", "shots": None}
    assert current.data.sets["mybirds"] == {
        "reader": "image_table",
        "path": "birds",
        "table": "all.csv",
        "templates": [template],
        "split_seed": 3,
        "rename": {"tern": "arctic tern"},
        "descriptions": {"arctic tern": "white, with a black cap"},
        "unseen": "classes/mybirds.txt",
    }


def test_folders_named_as_splits_keep_their_splits(project: Path) -> None:
    for folder in (f"{split}/{name}" for split in ("train", "val", "test") for name in ("tern", "kestrel")):
        (project / "split" / folder).mkdir(parents=True)
        (project / "split" / folder / "1.jpg").touch()
    result = new("--images", "split", "--unseen", "names.txt")
    assert "data.root" in result.output
    assert params.load().data.sets["mybirds"]["splits"] == "folders"
    assert Path(params.load().data.sets["mybirds"]["path"]) == project / "split"


def images(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


@pytest.mark.parametrize(
    "splits", [("train", "dev"), ("train", "test", "valid"), ("Training", "Testing")], ids="-".join
)
def test_split_folders_under_other_names_are_understood_and_said(splits: tuple[str, ...], project: Path) -> None:
    names = [f"{split}/{name}/{i}.jpg" for split in splits for name in ("tern", "kestrel") for i in range(4)]
    images(project / "split", *names)
    result = new("--images", "split")
    assert result.exit_code == 0, result.exception
    assert params.load().data.sets["mybirds"]["splits"] == "folders"
    assert [line for line in result.output.splitlines() if line.startswith("note: ") and splits[-1] in line]


def test_folders_one_level_too_high_are_asked_about_and_both_answers_work(project: Path) -> None:
    images(project / "photos", *(f"{year}/{name}/{i}.jpg" for year in (1, 2) for name in "ab" for i in range(9)))
    assert "--class-from" in str(new("--images", "photos").exception)
    assert params.read() == SHIPPED
    assert "'1', '2'" in new("--images", "photos", "--class-from", "first").output
    Path("params.yaml").write_text(SHIPPED, encoding="utf-8")
    assert "'a', 'b'" in new("--images", "photos", "--class-from", "last").output
    assert params.load().data.sets["mybirds"]["class_from"] == "last"


def test_files_that_are_not_read_are_counted_and_new_formats_are_read(project: Path) -> None:
    images(project / "data/birds", "tern/x.HEIC", "tern/y.jfif", "tern/z.nef", "tern/notes.txt", "__MACOSX/tern/1.jpg")
    output = new("--images", "data/birds").output
    listing = reader_from(params.load().data.sets["mybirds"], "mybirds").read(Path("data"))
    assert {"tern/x.HEIC", "tern/y.jfif"} < {image.path for image in listing.images}
    assert [line for line in output.splitlines() if "raw" in line and "tern/z.nef" in line]
    assert [line for line in output.splitlines() if "tern/notes.txt" in line]


def test_a_class_that_only_the_test_split_has_is_named(project: Path) -> None:
    names = [f"{split}/{name}/{i}.jpg" for split in ("train", "test") for name in ("tern", "wren") for i in range(4)]
    images(project / "split", *names, "test/terns/1.jpg")
    output = new("--images", "split").output
    assert [line for line in output.splitlines() if "'terns'" in line and "'tern'" in line]


def test_an_empty_folder_of_a_named_class_is_no_fault(project: Path) -> None:
    (project / "data/birds/barn owl").mkdir()
    assert new("--images", "data/birds", "--unseen", "names.txt").exit_code == 0


def test_a_class_may_be_called_train(project: Path) -> None:
    (project / "data/birds/tern").rename(project / "data/birds/train")
    result = new("--images", "data/birds")
    assert result.exit_code == 0, result.exception
    assert "3 classes with" in result.output


def test_classes_with_few_images_are_reported(project: Path) -> None:
    for name, count in {"one": 1, "two": 2, "three": 3}.items():
        (project / "data/birds" / name).mkdir()
        for i in range(count):
            (project / "data/birds" / name / f"{i}.jpg").touch()
    notes = [line for line in new("--images", "data/birds").output.splitlines() if line.startswith("note: ")]
    for note, parts in zip(notes, [("2 of 6", "validation", "'one', 'two'"), ("1 of 6", "test", "'one'")], strict=True):
        assert [part for part in parts if part not in note] == []


def test_one_image_of_one_class_is_enough_and_what_cannot_be_evaluated_is_said(project: Path) -> None:
    Path("few/tern").mkdir(parents=True)
    Path("few/tern/1.jpg").touch()
    result = new("--images", "few", "--unseen", "names.txt")
    assert result.exit_code == 0
    notes = " ".join(line for line in result.output.splitlines() if line.startswith("note: "))
    assert [part for part in ("nothing is evaluated", "cannot be compared") if part not in notes] == []


def test_the_same_command_completes_an_interrupted_one(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(params, "write", interrupt)
        assert new("--images", "data/birds", "--unseen", "names.txt").exit_code == 130
    assert params.read() == SHIPPED
    assert "classes/mybirds.txt" in str(new("--images", "data/birds").exception), "its class names differ"
    assert new("--images", "data/birds", "--unseen", "names.txt").exit_code == 0
    assert "mybirds" in params.load().tasks


def test_all_problems_are_reported_and_nothing_is_written(project: Path) -> None:
    (project / "data/birds/empty").mkdir()
    Path("names.txt").write_text("owl\nOwl\n", encoding="utf-8")
    Path("aliases.csv").write_text("folder,name\n", encoding="utf-8")
    options = ["--unseen", "names.txt", "--aliases", "aliases.csv", "--descriptions", "absent.csv"]
    result = CliRunner().invoke(app, ["task", "new", "my birds", "--images", "data/birds", *options])
    assert isinstance(result.exception, InputError)
    message = str(result.exception)
    for part in ("empty", "'owl'", "aliases.csv", "label,name", "absent.csv", "'my birds'"):
        assert part in message
    assert params.read() == SHIPPED
    assert not Path("classes").exists()


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("name,description\ntern,a small bird\n", "utf-8-sig"),
        ("Name; Description\r\n tern ; a small bird;\r\n;\r\n", "utf-8"),
        ("name\tdescription\r\ntern\ta small bird\r\n", "utf-16"),
    ],
)
def test_aliases_and_descriptions_are_read_as_spreadsheets_save_them(text: str, encoding: str, project: Path) -> None:
    Path("d.csv").write_bytes(text.encode(encoding))
    assert dataset_block.read_mapping(Path("d.csv"), "name", "description") == {"tern": "a small bird"}


def test_a_description_is_not_cut_at_its_comma(project: Path) -> None:
    Path("d.csv").write_text("name,description\ntern,a small bird, white\n")
    with pytest.raises(InputError, match=r"line 2.*'tern'.*quotes"):
        dataset_block.read_mapping(Path("d.csv"), "name", "description")


def test_problems_come_with_what_was_passed_over(project: Path) -> None:
    Path("data/photo.jpg").touch()
    Path("data/exported.json").write_text('[{"path": "photo.jpg", "boxes": [{"label": "owl"}], "label": null}]')
    with pytest.raises(InputError) as error:
        CliRunner().invoke(app, ["task", "check", "data/exported.json"], catch_exceptions=False)
    assert re.search(r"\n.*passed over 1\b.*photo\.jpg", str(error.value))


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--images", "nowhere"], ["nowhere", "folder"]),
        (["--images", "data/brids"], ["'data/birds'?"]),
        (["--images", "data/birds.csv"], ["data/birds.csv", "file"]),
        (["--images", "loose"], ["loose", " 1 image"]),
        (["--images", "data/birds", "--shots", "19"], ["--shots 19"]),
        (["--images", "data/birds", "--template", "a photo"], ["'a photo'", "{}"]),
        (["--images", "data/birds", "--unseen", "long.txt"], ["(76)", "coop"]),
        (["--images", "data/birds", "--unseen", "all.txt"], ["--unseen"]),
        (["--images", "few"], ["'tern'", "only class"]),
    ],
)
def test_unusable_input_is_an_error(project: Path, options: list[str], parts: list[str]) -> None:
    Path("long.txt").write_text("very " * 71 + "rare bird\n", encoding="utf-8")
    Path("all.txt").write_text("kestrel\ntern\nwren\n", encoding="utf-8")
    Path("two.txt").write_text("kestrel\ntern\n", encoding="utf-8")
    Path("loose").mkdir()
    Path("loose/1.jpg").touch()
    Path("few/tern").mkdir(parents=True)
    Path("few/tern/1.jpg").touch()
    result = new(*options)
    assert isinstance(result.exception, InputError)
    message = str(result.exception)
    assert [part for part in parts if part not in message] == []


def test_missing_images_are_reported_once(project: Path) -> None:
    message = str(new("--images", "nowhere").exception)
    assert "(1 problem)" in message
    assert "nowhere" in message


def test_a_name_can_be_used_once(project: Path) -> None:
    assert new("--images", "data/birds").exit_code == 0
    assert "mybirds" in str(new("--images", "data/birds").exception)


def test_a_task_on_own_images_runs_only_on_its_own_data_set(project: Path) -> None:
    new("--images", "data/birds", "--unseen", "names.txt")
    text = params.read().replace("tasks: [base_to_new]", "tasks: [mybirds]")
    with pytest.raises(InputError, match="shipyard run mybirds"):
        check(params.parse_text(text))
    check(params.parse_text(text.replace("datasets: [twemoji]", "datasets: [mybirds]")))


def test_check_shows_each_class_and_everything_odd_and_writes_nothing(project: Path) -> None:
    folder = project / "photos"
    for number in range(12):
        file = folder / ("tern" if number % 2 else "wren") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(file)
    picture(0).save(folder / "tern/copy.jpg", quality=60)
    (folder / "tern/broken.jpg").write_bytes(b"no picture")
    images(folder, "tern/notes.txt", "loose.jpg", "@eaDir/loose.jpg")
    before = sorted(project.rglob("*"))
    result = CliRunner().invoke(app, ["task", "check", "photos"])
    assert result.exit_code == 0, result.exception
    assert sorted(project.rglob("*")) == before
    rows = {line.split()[0]: line.split()[1:] for line in result.output.splitlines() if line[:4] in ("tern", "wren")}
    assert [sum(map(int, rows[name][:3])) for name in ("tern", "wren")] == [8, 6]
    assert [rows[name][3:] for name in ("tern", "wren")] == [["1", "1"], ["0", "1"]]
    notes = [line for line in result.output.splitlines() if line.startswith("note: ")]
    for parts in (
        ("tern/broken.jpg",),
        ("two classes", "tern/copy.jpg = wren/0.png"),
        ("tern/notes.txt",),
        ("loose.jpg",),
    ):
        assert [note for note in notes if all(part in note for part in parts)], parts


@pytest.mark.parametrize(
    ("name", "given", "added"),
    [
        ("{}.tar", "data/{0..2}.tar", {"path": ".", "shards": "{0..2}.tar"}),
        ("s/{}.tar", "data/s", {"path": "s", "shards": "**/*.tar"}),
        ("train-{}.parquet", "data", {"path": ".", "shards": "**/*.parquet", "splits": "shards"}),
    ],
)
def test_archives_become_a_data_set_by_pattern_or_folder(
    name: str, given: str, added: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(SHIPPED, encoding="utf-8")
    Path("assets").symlink_to(ROOT / "assets")
    for number, part in enumerate(dealt(write_folder(tmp_path / "elsewhere", 18), 3)):
        write = write_tar if name.endswith("tar") else write_parquet
        write(tmp_path / "data" / name.format(number), part)
    result = new("--images", given)
    assert result.exit_code == 0, result.exception
    block = params.parse_text(params.read()).data.sets["mybirds"]
    assert {key: value for key, value in block.items() if key != "unseen"} == {"reader": "image_shards", **added}
    assert CliRunner().invoke(app, ["task", "check", given]).exit_code == 0


def test_a_tar_beside_the_folders_of_classes_is_not_read(project: Path) -> None:
    write_tar(project / "data/birds/all.tar", {"wren/0.jpg": b""})
    assert new("--images", "data/birds").exit_code == 0
    assert "image_folder" in str(params.parse_text(params.read()).data.sets["mybirds"])


def test_names_that_are_not_utf_8_are_one_line(project: Path) -> None:
    folder = project / "photos" / os.fsdecode(b"m\xf6we")
    images(folder, *(f"{number}.jpg" for number in range(4)))
    images(project / "photos", "tern/1.jpg")
    message = str(CliRunner().invoke(app, ["task", "check", "photos"]).exception)
    assert sum("UTF-8" in line for line in message.splitlines()) == 1
    assert "4 images" in message


def test_check_lists_the_problems_that_new_would(project: Path) -> None:
    images(project / "photos", *(f"train/{name}/1.jpg" for name in "ab"), *(f"Tset/{name}/1.jpg" for name in "ab"))
    assert "'test'" in str(CliRunner().invoke(app, ["task", "check", "photos"]).exception)


def test_tables_of_other_kinds_and_metadata_in_a_folder(project: Path) -> None:
    (project / "export.zip").touch()
    assert "unpack" in str(new("--images", "export.zip").exception)
    (project / "labels.xlsx").touch()
    assert ".csv" in str(new("--images", "labels.xlsx").exception)
    folder = project / "data/birds"
    rows = "".join(f"tern/{i}.jpg,tern\nwren/{i}.jpg,wren\n" for i in range(10))
    (folder / "metadata.csv").write_text(f"file_name,label\n{rows}", encoding="utf-8")
    result = new("--images", "data/birds")
    assert "column 'file_name'" in result.output
    assert params.load().data.sets["mybirds"]["table"] == "metadata.csv"


def test_an_export_of_a_labelling_tool_is_read_from_its_folder(project: Path) -> None:
    images(project / "export", *(f"{split}/{i}.jpg" for split in ("train", "valid") for i in range(6)))
    for split in ("train", "valid"):
        rows = "".join(f"{i}.jpg, {i % 2}, {1 - i % 2}\n" for i in range(6))
        (project / "export" / split / "_classes.csv").write_text(f"filename, tern, wren\n{rows}", encoding="utf-8")
    result = new("--images", "export")
    assert "'tern', 'wren'" in result.output
    assert params.load().data.sets["mybirds"]["table"] == ["train/_classes.csv", "valid/_classes.csv"]
    Path("params.yaml").write_text(SHIPPED, encoding="utf-8")
    (project / "export/train/_classes.csv").write_text("filename,tern,wren\n1.jpg,1,1\n", encoding="utf-8")
    assert "several labels" in str(new("--images", "export").exception)


def test_a_table_beside_a_folder_of_images_is_read(project: Path) -> None:
    images(project / "flat", *(f"images/{i}.jpg" for i in range(8)))
    rows = "".join(f"{i}.jpg,{'tern' if i % 2 else 'wren'}\n" for i in range(8))
    (project / "flat/labels.csv").write_text(f"filename,class\n{rows}", encoding="utf-8")
    assert "labels.csv" in new("--images", "flat").output
    assert params.load().data.sets["mybirds"]["table"] == "labels.csv"
    Path("params.yaml").write_text(SHIPPED, encoding="utf-8")
    (project / "flat/sample_submission.csv").write_text(f"filename,class\n{rows}", encoding="utf-8")
    assert "labels.csv" in new("--images", "flat").output, "the example of a submission has no labels"
    Path("params.yaml").write_text(SHIPPED, encoding="utf-8")
    (project / "flat/more.csv").write_text(f"filename,class\n{rows}", encoding="utf-8")
    assert "'flat/labels.csv'" in str(new("--images", "flat").exception)


def test_the_folder_of_a_table_whose_paths_lead_to_images_is_not_walked(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "".join(f"data/birds/{name}/{i}.jpg,{name}\n" for name in ("tern", "wren") for i in range(5))
    Path("labels.csv").write_text(f"path,label\n{rows}", encoding="utf-8")
    monkeypatch.delattr(dataset_block, "find_images")  # the folder may be a home, with a million files
    result = new("--images", "labels.csv")
    assert result.exit_code == 0, result.output


def test_absolute_paths_may_lie_elsewhere_than_their_table(project: Path) -> None:
    images(project / "photos", *(f"{name}/{i}.jpg" for name in ("tern", "wren") for i in range(4)))
    rows = [f"{project}/photos/{name}/{i}.jpg,{name}\n" for name in ("tern", "wren") for i in range(4)]
    Path("tables").mkdir()
    Path("tables/labels.csv").write_text("path,label\n" + "".join(rows), encoding="utf-8")
    assert new("--images", "tables/labels.csv", "--max-pixels", "5").exit_code == 0
    block = params.load().data.sets["mybirds"]
    assert (block["path"], block["table"]) == (str(project / "photos"), str(project / "tables/labels.csv"))
    assert reader_from(block, "mybirds").read(Path("data")).max_pixels == 5


@pytest.mark.parametrize("name", ["123", "1e3", "null", "true", "0x1f", "yes", "2024-01-01", "1.5"])
def test_names_that_yaml_reads_as_something_else_are_refused(name: str, project: Path) -> None:
    message = str(CliRunner().invoke(app, ["task", "new", name, "--images", "data/birds"]).exception)
    assert f"task_{name}" in message
    assert params.read() == SHIPPED


@pytest.mark.parametrize("template", ["a {} and {}", "{}{", "no name", "{0}"])
def test_templates_that_are_none_are_explained(template: str, project: Path) -> None:
    exception = new("--images", "data/birds", "--template", template).exception
    assert isinstance(exception, InputError)
    assert repr(template) in str(exception)


def test_pasted_names_are_understood_and_written_one_a_line(project: Path) -> None:
    result = new("--images", "data/birds", "--unseen", "barn owl, stork")
    assert "'barn owl', 'stork'" in result.output
    assert Path("classes/mybirds.txt").read_text(encoding="utf-8").splitlines()[1:] == ["barn owl", "stork"]
