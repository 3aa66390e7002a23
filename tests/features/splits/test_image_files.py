"""Every file below a folder is read as an image, or passed over with a reason."""

from __future__ import annotations

import io
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import picture

from features.splits.image_files import find_images, passed_over_lines


def write(folder: Path, *paths: str, data: bytes = b"") -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def encoded(kind: str) -> bytes:
    import pillow_heif

    pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    picture(0).save(buffer, kind)
    return buffer.getvalue()


JPEG = encoded("JPEG")


def test_names_of_phones_browsers_and_cameras_are_images(tmp_path: Path) -> None:
    names = ["a.HEIC", "b.jfif", "c.gif", "d.jp2", "e.avif", "f.HEIF", "g.JPG", "h.mpo"]
    write(tmp_path, *names)
    assert find_images(tmp_path).images == names


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF", "HEIF"])
def test_a_name_that_says_nothing_is_judged_by_content(kind: str, tmp_path: Path) -> None:
    write(tmp_path, "cat/IMG_1", "cat/x.jpg_large", data=encoded(kind))
    write(tmp_path, "cat/BMW.txt", data=b"BMW, the make of cars, is not the beginning of a bitmap")
    found = find_images(tmp_path)
    assert found.images == ["cat/IMG_1", "cat/x.jpg_large"]
    assert [path for path, _ in found.passed_over] == ["cat/BMW.txt"]


def test_what_is_no_photograph_is_passed_over_with_a_reason(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.nef", "cat/2.jpg.part", "cat/3.mov", data=encoded("TIFF"))
    write(tmp_path, "cat/._1.jpg", "cat/.hidden/1.jpg", "cat/@eaDir/1.jpg/THUMB.jpg", "__MACOSX/cat/1.jpg")
    write(tmp_path, "cat/4.psd", "cat/5.txt", data=b"8BPS")
    write(tmp_path, "cat/.DS_Store", "cat/Thumbs.db", "cat/.gitkeep")
    found = find_images(tmp_path)
    assert found.images == []
    assert found.folders == ["cat"]
    kinds = {path: reason.split()[0] for path, reason in found.passed_over}
    assert kinds == {
        "cat/1.nef": "raw",
        "cat/2.jpg.part": "unfinished",
        "cat/3.mov": "videos",
        "cat/4.psd": "images",
        "cat/5.txt": "no",
        "cat/._1.jpg": "hidden",
        "cat/.hidden/1.jpg": "images",
        "cat/@eaDir/1.jpg/THUMB.jpg": "images",
        "__MACOSX/cat/1.jpg": "images",
    }


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    write(tmp_path, "far/session/1.jpg", "far/2.jpg", "photos/dog/3.jpg")
    photos = tmp_path / "photos"
    (photos / "cat").symlink_to(tmp_path / "far")
    (photos / "dog/again").symlink_to(tmp_path / "far/session")
    (photos / "dog/loop").symlink_to(photos)
    (photos / "dog/4.jpg").symlink_to(tmp_path / "far/2.jpg")
    (photos / "dog/5.jpg").symlink_to(tmp_path / "nowhere")
    found = find_images(photos)
    assert sorted(found.images) == ["cat/2.jpg", "cat/session/1.jpg", "dog/3.jpg", "dog/4.jpg"]
    assert {path for path, _ in found.passed_over} == {"dog/again", "dog/loop", "dog/5.jpg"}


def test_a_link_to_itself_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "cat/1.jpg")
    (tmp_path / "cat/2.jpg").symlink_to("2.jpg")
    found = find_images(tmp_path)
    assert found.images == ["cat/1.jpg"]
    assert [path for path, _ in found.passed_over] == ["cat/2.jpg"]


def test_a_line_counts_by_reason_and_folder(tmp_path: Path) -> None:
    write(tmp_path, *(f"cat/{i}.txt" for i in range(5)), *(f"dog/{i}.txt" for i in range(2)), "readme.txt", "cat/a.nef")
    lines = list(passed_over_lines(find_images(tmp_path).passed_over))
    assert [line for line in lines if "8" in line and "5 in cat" in line and "2 in dog" in line and "1 in ." in line]
    assert len(lines) == 2


def test_names_in_unusual_encodings_do_not_break_the_lines(tmp_path: Path) -> None:
    write(tmp_path, "cat/a\nb.txt")
    (tmp_path / "cat").joinpath(b"\xff.txt".decode(errors="surrogateescape")).touch()
    [line] = passed_over_lines(find_images(tmp_path).passed_over)
    line.encode()
    assert "\n" not in line


NAMES = st.sampled_from(
    [
        "a.jpg",
        "b.HEIC",
        "IMG_1",
        "ü.png",
        "c d.webp",
        ".hidden.jpg",
        "notes.txt",
        "x.nef",
        "e.part",
        "f.mov",
        "g\nh.jpg",
    ]
)
FOLDERS = st.lists(st.sampled_from(["cat", "Dog", "@eaDir", ".git", "ü", "2023"]), max_size=3)
FILES = st.lists(st.tuples(FOLDERS, NAMES, st.booleans()), max_size=12)
LINKS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=3)


@given(files=FILES, links=LINKS)
@settings(max_examples=60, deadline=None)
def test_every_file_is_read_once_or_passed_over(
    files: list[tuple[list[str], str, bool]], links: list[tuple[int, int]]
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        for parents, file, is_image in files:
            write(folder, "/".join([*parents, file]), data=JPEG if is_image else b"text")
        folders = [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]
        for number, (place, target) in enumerate(links):
            (folders[place % len(folders)] / f"link{number}").symlink_to(folders[target % len(folders)])

        found = find_images(folder)
        real = [os.path.realpath(folder / path) for path in found.images]
        assert len(real) == len({*real}), "a file is read once, also through links"
        expected = {
            os.path.realpath(path)
            for path in folder.rglob("*")
            if path.is_file()
            and not {part for part in path.relative_to(folder).parts if part in ("@eaDir", ".git")}
            and not path.name.startswith(".")
        }
        passed_over = {os.path.realpath(folder / path) for path, _ in found.passed_over}
        assert expected <= {*real} | passed_over
        assert not {*real} & {file for file in expected if Path(file).suffix in (".nef", ".part", ".mov")}
        list(passed_over_lines(found.passed_over))
