"""The index: refuses what contradicts itself, and the same data set always gives the same bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from project_root import ROOT

from features.datasets.base import Counts, Image, Listing, Origin
from features.encoding.images import Reading
from features.errors import InputError
from features.formats import digests
from features.formats.files import PART_SUFFIX
from features.formats.parquet import write_sealed
from features.formats.seal import write_sealed_json
from features.index import read_names, write_index
from features.index_table import Index, read_index
from stages import index as stage

ORIGIN = Origin("Made up", licence="CC0", home="", citation="")
CLASSES = ("okapi", "café", "bishop's hat", "only named")
IMAGES = (
    Image("b/1.jpg", 1, "train"),
    Image("a/2.jpg", 0, "train"),
    Image("a/10.jpg", 0, "train"),
    Image("a/3.jpg", 0, "val"),
    Image("c/ü 4.JPG", 2, "test"),
    Image("a/5.jpg", 0, "test"),
)
LISTING = Listing(IMAGES, CLASSES, ("a photo of a {}.",), ORIGIN)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for image in IMAGES:
        file = tmp_path / "images" / image.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(image.path.encode())
    return tmp_path / "images"


def write(listing: Listing, folder: Path) -> tuple[Path, Path]:
    table, names = folder.parent / "index/x.parquet", folder.parent / "index/x.json"
    write_index(listing, folder, table, names, folder.parent / "scratch/x.json")
    return table, names


def changed(**values: Any) -> Listing:
    return dataclasses.replace(LISTING, **values)


def test_an_index_round_trips(folder: Path) -> None:
    table, names = write(LISTING, folder)
    index = read_index(table)
    assert index.paths == ("a/10.jpg", "a/2.jpg", "b/1.jpg", "a/3.jpg", "a/5.jpg", "c/ü 4.JPG")
    assert index.class_ids.tolist() == [0, 0, 1, 0, 0, 2]
    assert index.splits == ("train", "train", "train", "val", "test", "test")
    assert index.sizes.tolist() == [len(path.encode()) for path in index.paths]
    assert index.sha256 == tuple(hashlib.sha256(path.encode()).hexdigest() for path in index.paths)
    assert [index.rows(split).tolist() for split in ("train", "val", "test")] == [[0, 1, 2], [3], [4, 5]]  # type: ignore[arg-type]
    assert index.class_ids.dtype == np.int32
    assert index.class_ids.flags.writeable
    read = read_names(names)
    assert (read.classes, read.templates, read.origin, read.missing) == (CLASSES, LISTING.templates, ORIGIN, 0)


def test_origin_with_counts_is_read(folder: Path) -> None:
    origin = dataclasses.replace(ORIGIN, counts=Counts(train=3, val=1, test=2, classes=4))
    assert read_names(write(changed(origin=origin), folder)[1]).origin == origin


def test_the_same_data_give_the_same_bytes(folder: Path) -> None:
    first = [path.read_bytes() for path in write(LISTING, folder)]
    images = IMAGES[3:] + IMAGES[:3]
    elsewhere = folder.parent / "elsewhere/images"
    shutil.copytree(folder, elsewhere)
    assert [path.read_bytes() for path in write(changed(images=images), elsewhere)] == first


def test_the_table_is_plain(folder: Path) -> None:
    file = pq.ParquetFile(write(LISTING, folder)[0])
    assert b"pandas" not in (file.metadata.metadata or {})
    assert {file.metadata.row_group(0).column(i).compression for i in range(5)} == {"ZSTD"}
    assert [str(field.type) for field in file.schema_arrow] == ["string", "int32", "string", "int64", "string"]


def test_another_class_name_leaves_the_table_alone(folder: Path) -> None:
    table, names = write(LISTING, folder)
    before, named = table.read_bytes(), names.read_bytes()
    write(changed(classes=(*CLASSES, "quokka"), templates=("a drawing of a {}.",)), folder)
    assert table.read_bytes() == before
    assert names.read_bytes() != named


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"images": ()}, "no images"),
        ({"templates": ()}, "no template"),
        ({"templates": ("a photo.",)}, "must have one {}"),
        ({"templates": ("a {} of {}.",)}, "must have one {}"),
        ({"templates": ("{a} photo of a {}.",)}, "no other brace"),
        ({"classes": ("a", "b")}, r"c/ü 4\.JPG: class id 2 is not in 0 to 1"),
        ({"classes": ("a", "b_c", "d", "B  c")}, r"1 'b_c', 3 'B  c'"),
        ({"classes": ("a", "b", " c", "_", "e\n")}, r"(?s)class 2 ' c'.*class 3 '_'.*class 4 'e\\n'"),
        ({"images": (*IMAGES, Image("a/2.jpg", 0, "test"))}, r"a/2\.jpg: .*train, test"),
        ({"images": (Image("../x.jpg", 0, "val"),)}, r"'\.\./x\.jpg': outside"),
        ({"images": (Image("/etc/passwd", 0, "val"),)}, r"'/etc/passwd': outside"),
        ({"images": (Image("a/../../x.jpg", 0, "val"),)}, r"'a/\.\./\.\./x\.jpg': outside"),
        ({"images": (Image("", 0, "val"),)}, r"'': outside"),
        ({"images": (Image("a//./2.jpg", 0, "val"),)}, r"'a//\./2\.jpg': .*'a/2\.jpg'"),
        ({"images": (Image("a/\udcff.jpg", 0, "val"),)}, "UTF-8"),
        (
            {"origin": dataclasses.replace(ORIGIN, counts=Counts(train=4128, val=1, test=2, classes=5))},
            r"(?s)train: 3, .*4,128.*classes: 4, .*5",
        ),
    ],
)
def test_a_listing_that_contradicts_itself_is_refused(values: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(InputError, match=message):
        write(changed(**values), folder)
    assert not (folder.parent / "index").exists()


def test_every_mistake_is_reported_at_once(folder: Path) -> None:
    images = (Image("../x.jpg", 9, "val"), *IMAGES, *IMAGES[:2])
    with pytest.raises(InputError, match=r"\(6 problems\)"):
        write(changed(images=images, templates=("none",), classes=(*CLASSES, "OKAPI")), folder)


def test_names_that_the_official_list_repeats_are_accepted(folder: Path) -> None:
    classes = (*CLASSES, "okapi")
    with pytest.raises(InputError, match="0 'okapi', 4 'okapi'"):
        write(changed(classes=classes), folder)
    assert (
        read_names(write(changed(classes=classes, repeated_names=frozenset({"okapi"})), folder)[1]).classes == classes
    )


def test_a_partial_copy_is_marked_and_not_counted(folder: Path) -> None:
    origin = dataclasses.replace(ORIGIN, counts=Counts(train=99, val=9, test=9, classes=4))
    assert read_names(write(changed(origin=origin, missing=111), folder)[1]).missing == 111


def test_all_files_that_cannot_be_read_are_named(folder: Path) -> None:
    before = [path.read_bytes() for path in write(LISTING, folder)]
    (folder / "a/2.jpg").unlink()
    (folder / "b/1.jpg").unlink()
    (folder / "b/1.jpg").mkdir()
    with pytest.raises(InputError, match=r"(?s)\(2 problems\).*a/2\.jpg: No such file.*b/1\.jpg: "):
        write(LISTING, folder)
    assert [(folder.parent / "index" / name).read_bytes() for name in ("x.parquet", "x.json")] == before


# Digests


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were hashed, by name."""
    files: list[str] = []
    plain = hashlib.file_digest

    def counted(file: Any, name: str) -> Any:
        files.append(Path(file.name).name)
        return plain(file, name)

    monkeypatch.setattr(digests.hashlib, "file_digest", counted)
    return files


def test_a_file_is_hashed_again_only_after_a_change(folder: Path, hashed: list[str]) -> None:
    write(LISTING, folder)
    assert len(hashed) == len(IMAGES)
    hashed.clear()
    write(LISTING, folder)
    assert hashed == []
    (folder / "a/2.jpg").write_bytes(b"longer than it was")
    file = folder / "a/3.jpg"
    status = file.stat()
    file.write_bytes(b"x" * status.st_size)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    index = read_index(write(LISTING, folder)[0])
    assert sorted(hashed) == ["2.jpg", "3.jpg"]
    assert index.sha256 == tuple(hashlib.sha256((folder / path).read_bytes()).hexdigest() for path in index.paths)


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        "null",
        '{"folder": 1}',
        '{"folder": "%s", "files": {"a/2.jpg": [1]}}',
        '{"folder": "%s", "files": 3}',
    ],
)
def test_a_damaged_cache_is_harmless(damage: str, folder: Path, hashed: list[str]) -> None:
    before = [path.read_bytes() for path in write(LISTING, folder)]
    (folder.parent / "scratch/x.json").write_text(damage.replace("%s", str(folder)))
    assert [path.read_bytes() for path in write(LISTING, folder)] == before
    assert len(hashed) == 2 * len(IMAGES)


def test_the_cache_of_another_folder_is_not_used(folder: Path, hashed: list[str]) -> None:
    write(LISTING, folder)
    other = folder.parent / "other"
    shutil.copytree(folder, other)  # the same sizes and times
    write(LISTING, other)
    assert len(hashed) == 2 * len(IMAGES)


# Reading


def test_a_file_that_is_not_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.parquet.*dvc repro"):
        read_index(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("not Parquet")
    with pytest.raises(InputError, match=r"text\.parquet"):
        read_index(tmp_path / "text.parquet")
    write_sealed(pa.table({"path": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match=r"other\.parquet.*\['path'\]"):
        read_index(tmp_path / "other.parquet")


@pytest.mark.parametrize("values", [{"classes": []}, {"origin": {"counts": None, "x": 1}}])
def test_a_file_without_class_names_is_refused(values: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.json.*dvc repro index"):
        read_names(tmp_path / "x.json")
    write_sealed_json(tmp_path / "x.json", values)
    with pytest.raises(InputError, match=r"x\.json.*dvc repro index"):
        read_names(tmp_path / "x.json")


# The stage


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def indexed(project: Path, dataset: str) -> Index:
    stage.main(dataset=dataset)
    assert not list(project.rglob(f".*{PART_SUFFIX}"))
    return read_index(project / f"artifacts/index/{dataset}.parquet")


def test_the_stage_indexes_the_demo(project: Path) -> None:
    index = indexed(project, "twemoji")
    assert len(index.paths) == 498
    assert len(read_names(project / "artifacts/index/twemoji.json").classes) == 16


def test_the_stage_explains_a_missing_data_set(project: Path) -> None:
    with pytest.raises(InputError, match=r"'twemojy'.*'twemoji'"):
        stage.main(dataset="twemojy")
    with pytest.raises(InputError, match=r"data\.root"):
        stage.main(dataset="caltech101")
    assert not (project / "artifacts").exists()


def test_the_stage_indexes_caltech101(project: Path, shared: Path) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("root: data ", f"root: {shared}/data "))
    index = indexed(project, "caltech101")
    assert [len(index.rows(split)) for split in ("train", "val", "test")] == [4128, 1649, 2465]  # type: ignore[arg-type]
    assert index.paths[0].startswith("Faces/")  # class 0


def test_own_images_are_read_upright_and_deep_ones_by_the_levels_of_all(tmp_path: Path) -> None:
    images = []
    for number, white in enumerate((900, 4000)):
        values = np.full((20, 20), white, np.uint16)
        (tmp_path / f"images/{number}").mkdir(parents=True)
        PIL.Image.fromarray(values).save(tmp_path / f"images/{number}/1.png")
        images.append(Image(f"{number}/1.png", number, "train"))
    listing = changed(images=tuple(images), own=True)
    table, _ = write(listing, tmp_path / "images")
    assert read_index(table).reading == Reading(upright=True, levels=(0, 4095))
    before = table.read_bytes()
    table.unlink()
    write(listing, tmp_path / "images")
    assert table.read_bytes() == before, "the same with the cache"

    published, _ = write(changed(images=tuple(images)), tmp_path / "images")
    assert read_index(published).reading == Reading()


def test_floats_up_to_1_beside_other_deep_images_are_reported(tmp_path: Path) -> None:
    for number, values in enumerate((np.full((20, 20), 4000, np.uint16), np.full((20, 20), 0.5, np.float32))):
        (tmp_path / f"images/{number}").mkdir(parents=True)
        PIL.Image.fromarray(values).save(tmp_path / f"images/{number}/1.tif")
    listing = changed(images=tuple(Image(f"{number}/1.tif", number, "train") for number in range(2)), own=True)
    cache = tmp_path / "cache.json"
    lines = write_index(listing, tmp_path / "images", tmp_path / "i.parquet", tmp_path / "n.json", cache)
    assert any("1 image of these" in line for line in lines)


def test_a_raised_limit_of_pixels_counts_at_once(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    PIL.Image.new("RGB", (20, 20)).save(tmp_path / "images/1.png")
    listing = changed(images=(Image("1.png", 0, "train"),), own=True)
    names, cache = tmp_path / "names.json", tmp_path / "cache.json"

    def lines(limit: int) -> tuple[str, ...]:
        limited = dataclasses.replace(listing, max_pixels=limit)
        return write_index(limited, tmp_path / "images", tmp_path / "index.parquet", names, cache)

    assert any("1.png" in line and "max_pixels" in line for line in lines(399))
    assert lines(400) == ()
    assert read_index(tmp_path / "index.parquet").reading.max_pixels == 400


def test_own_images_may_be_links_and_those_of_archives_may_not(tmp_path: Path) -> None:
    (tmp_path / "far.png").write_bytes(b"x")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/1.png").symlink_to(tmp_path / "far.png")
    listing = changed(images=(Image("1.png", 0, "train"),))
    with pytest.raises(InputError, match="symbolic link"):
        write(listing, tmp_path / "images")
    write(dataclasses.replace(listing, own=True), tmp_path / "images")


def test_images_that_there_is_no_time_to_decode_are_opened_and_counted(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name, size in (("1.png", 20), ("2.png", 20), ("3.png", 30)):
        PIL.Image.new("RGB", (size, size)).save(tmp_path / "images" / name)
    (tmp_path / "images/4.png").write_text("no image")
    paths = ("1.png", "2.png", "3.png", "4.png")
    listing = changed(images=tuple(Image(path, 0, "train") for path in paths), own=True, max_pixels=400)
    names, cache = tmp_path / "names.json", tmp_path / "cache.json"

    def lines(seconds: float) -> str:
        table = tmp_path / "index.parquet"
        return "\n".join(write_index(listing, tmp_path / "images", table, names, cache, seconds=seconds))

    in_no_time = lines(0)
    assert "2 of 4 images" in in_no_time
    assert "3.png: 30 x 30" in in_no_time
    assert "4.png: not an image" in in_no_time
    assert "1.png = 2.png" in in_no_time, "equal bytes are known without decoding"
    assert "2 of 4" not in lines(60), "what was not decoded is not kept as such"
