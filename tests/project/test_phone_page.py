"""The made-up folder of docs/from_a_phone.md has what the page says that a phone leaves."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from project_root import ROOT

from benchmarks import phone_page
from features.encoding.images import ORIENTATION
from features.splits.image_files import find_images

PAGE = (ROOT / "docs/from_a_phone.md").read_text(encoding="utf-8")


def test_the_folder_has_every_kind_that_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phone_page, "PER_CLASS", 4)
    monkeypatch.setattr(phone_page, "NEW", 1)
    phone_page.make_folder(tmp_path)
    found = find_images(tmp_path / "photos")
    assert {Path(path).suffix for path in found.images} == {".HEIC", ".jpg"}
    assert [Path(path).suffix for path, _ in found.passed_over] == [".MOV"]
    jpegs = [(tmp_path / "photos" / path).read_bytes() for path in found.images if path.endswith(".jpg")]
    assert 6 in {Image.open(io.BytesIO(data)).getexif().get(ORIENTATION) for data in jpegs}
    assert len(list((tmp_path / "new").iterdir())) == len(phone_page.SEEN) + len(phone_page.UNSEEN)


def test_the_pictures_of_the_page_are_there_and_small() -> None:
    pictures = sorted((ROOT / "docs/pictures").glob("*.webp"))
    assert [f"pictures/{file.name}" for file in pictures if f"(pictures/{file.name})" not in PAGE] == []
    assert [file.name for file in pictures if file.stat().st_size > 150_000] == []
    assert len(pictures) == PAGE.count("](pictures/")
