"""Made-up folders and tables of any names, spellings and encodings: what is read is what was given, or an error."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from tempfile import TemporaryDirectory
from typing import Literal, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from features.datasets.base import SPLITS, Listing, Split, reader_from
from features.errors import Problems
from features.splits.class_names import understand
from features.splits.folder_layout import SPLIT_NAMES, has_split_folders, near_split, split_of
from features.splits.image_files import IMAGE_SUFFIXES, SYSTEM_FOLDERS, find_images
from features.splits.label_table import read_label_table
from features.splits.own_images import nfc
from features.splits.table_columns import COLUMNS

T = TypeVar("T")
few = settings(max_examples=40)
# Letters with and without accents, of several scripts, and what people put into names of folders.
NAMES = (
    st.text(st.sampled_from("abzAZ019éößñжあ猫🐦 _-.,'&()#+=%~@"), min_size=1, max_size=9)
    .map(str.strip)
    .filter(lambda name: name.strip(" _.") and not name.startswith(".") and not name.endswith("."))
    .filter(lambda name: not split_of(name) and not near_split(name) and name.lower() not in SYSTEM_FOLDERS)
)
CLASSES = st.lists(NAMES, min_size=2, max_size=3, unique_by=lambda name: nfc(name).casefold())
SPELLINGS = {split: [name for name, meant in SPLIT_NAMES.items() if meant == split] for split in SPLITS}
CASES = st.sampled_from([str, str.upper, str.title])
FORM = st.sampled_from(("NFC", "NFD"))


def write(folder: Path, path: str) -> str:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).touch()
    return path


def read(folder: Path, **options: object) -> Listing:
    return reader_from({"path": folder.name, **options}, "test").read(folder.parent)


def labels(listing: Listing) -> dict[str, str]:
    assert listing.faults == ()
    return {image.path: listing.classes[image.class_id] for image in listing.images}


def result(call: Callable[[], T], where: str) -> T | None:
    """Return what a call returns; None if it raises an `InputError` that says where."""
    problems = Problems()
    returned = problems.attempt(call)
    assert [message for message in problems.messages if where not in message] == []
    return returned


@given(CLASSES, st.lists(st.sampled_from(sorted(IMAGE_SUFFIXES)), min_size=3, max_size=3), FORM, st.booleans())
@few
def test_the_labels_are_the_folders_whatever_their_names(
    names: list[str], suffixes: list[str], form: Literal["NFC", "NFD"], deeper: bool
) -> None:
    with TemporaryDirectory() as place:
        folder = Path(place) / "d"
        expected = {}
        for name in names:
            on_disk = unicodedata.normalize(form, name)
            for number, suffix in enumerate(suffixes):
                session = "session 1/" if deeper and number else ""
                expected[write(folder, f"{on_disk}/{session}IMG {number}{suffix}")] = nfc(name)
        assert not has_split_folders(folder, find_images(folder))
        assert labels(read(folder, reader="image_folder")) == expected


@given(CLASSES, st.tuples(*(st.sampled_from(SPELLINGS[split]) for split in SPLITS)), CASES)
@few
def test_split_folders_are_read_under_every_name(names: list[str], splits: tuple[str, ...], case: type[str]) -> None:
    with TemporaryDirectory() as place:
        folder = Path(place) / "d"
        expected: dict[str, Split | None] = {}
        for split in splits:
            for name in names:
                expected[write(folder, f"{case(split)}/{name}/1.jpg")] = split_of(split)
        assert has_split_folders(folder, find_images(folder))
        listing = read(folder, reader="image_folder", splits="folders")
        assert labels(listing) == {path: nfc(path.split("/")[1]) for path in expected}
        assert {image.path: image.split for image in listing.images} == expected


HEADINGS = st.tuples(st.sampled_from(COLUMNS["path"]), st.sampled_from(COLUMNS["label"]), CASES)
STYLES = st.sampled_from(("relative", "absolute", "backslashes", "name", "another machine"))
FILES = st.tuples(st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "cp1252")), st.sampled_from(("\n", "\r\n")))


@given(CLASSES, HEADINGS, st.sampled_from(",;\t|"), FILES, STYLES)
@settings(max_examples=80)
def test_a_table_has_the_same_labels_however_it_is_written(
    names: list[str], heading: tuple[str, str, type[str]], delimiter: str, file: tuple[str, str], style: str
) -> None:
    (path_column, label_column, case), (encoding, end) = heading, file
    with TemporaryDirectory() as place:
        folder = Path(place).resolve() / "d"
        paths = [(write(folder, f"photos {i}/{i}-{j}.jpg"), name) for i, name in enumerate(names) for j in range(2)]
        shown = {
            "relative": str,
            "absolute": lambda path: str(folder / path),
            "backslashes": lambda path: str(PureWindowsPath(path)),
            "name": lambda path: Path(path).name,
            "another machine": lambda path: f"D:\\data\\{PureWindowsPath(path)}",
        }[style]
        text = io.StringIO()
        writer = csv.writer(text, delimiter=delimiter, lineterminator=end)
        writer.writerow([case(path_column), case(label_column)])
        writer.writerows((shown(path), name) for path, name in paths)
        try:
            data = text.getvalue().encode(encoding)
        except UnicodeEncodeError:
            data = text.getvalue().encode()
        (folder / "labels.csv").write_bytes(data)
        assert labels(read(folder, reader="image_table")) == {path: nfc(name) for path, name in paths}


@given(st.binary(max_size=200), st.sampled_from((".csv", ".tsv", ".txt", ".json", ".jsonl", ".xml", ".parquet")))
@few
def test_any_bytes_are_a_table_or_an_error(data: bytes, suffix: str) -> None:
    with TemporaryDirectory() as place:
        file = Path(place) / f"t{suffix}"
        file.write_bytes(data)
        table = result(lambda: read_label_table(file), file.name)
        assert table is None or all({*row} == {"path", "label", "split", "group"} for row in table.rows)


@given(st.text(st.sampled_from('ab é猫,;1.)-*•\t\n"“#'), max_size=40))
@few
def test_any_text_is_a_list_of_names_or_an_error(text: str) -> None:
    found = result(lambda: understand(text, "names.txt"), "names.txt")
    if found is not None:
        given = " ".join(nfc(text).split())
        assert all(name and name == name.strip() and name in given for name in found.names)
        assert found.names or found.notes
