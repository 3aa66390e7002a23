"""Every file below a folder is read as an image, or passed over with a reason."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
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


def reasons(folder: Path) -> dict[str, str]:
    return dict(find_images(folder).passed_over)


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
    write(tmp_path, "cat/.DS_Store", "cat/Thumbs.db", "cat/.gitkeep")
    found = find_images(tmp_path)
    assert found.images == []
    assert found.folders == ["cat"]
    kinds = {path: reason.split()[0] for path, reason in found.passed_over}
    assert kinds == {
        "cat/1.nef": "raw",
        "cat/2.jpg.part": "unfinished",
        "cat/3.mov": "videos",
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
