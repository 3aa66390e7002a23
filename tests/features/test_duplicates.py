"""Copies of a picture are found, whatever they were saved as, and stay in one split."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pictures

from features.datasets.base import Image, Split
from features.duplicates import crossing_sets, duplicate_lines, find_duplicates, keep_together
from features.encoding.images import inspect
from features.inspection import SIZE


def thumbnail(picture: Pictures.Image, kind: str = "PNG", **options: object) -> np.ndarray:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return inspect(buffer.getvalue(), SIZE)[1]


@pytest.fixture(scope="module")
def photographs(shared: Path) -> list[Pictures.Image]:
    files = sorted((shared / "data/textures-10").rglob("*.jpg"))[::4][:40]
    files += sorted((shared / "data/caltech-101").rglob("*.jpg"))[::200][:40]
    return [Pictures.open(file).convert("RGB") for file in files]


def test_different_photographs_are_no_copies_and_re_encoded_and_resized_ones_are(
    photographs: list[Pictures.Image],
) -> None:
    originals = [thumbnail(picture) for picture in photographs]
    names = [f"{number:03}" for number in range(len(originals))]
    assert find_duplicates(names, names, originals) == ()
    for scale, options in ((1, {"quality": 30}), (2, {"quality": 80}), (3, {"quality": 90})):
        copies = [
            thumbnail(picture.resize((picture.width // scale, picture.height // scale)), "JPEG", **options)
            for picture in photographs
        ]
        both = [*names, *(f"copy {name}" for name in names)]
        found = find_duplicates(both, both, [*originals, *copies])
        assert set(found) <= {(name, f"copy {name}") for name in names}
        assert len(found) >= 0.9 * len(names)


def test_different_pictures_of_one_fabric_are_no_copies() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:240, 0:320] / 320
    light = 150 - 60 * ((x - 0.5) ** 2 + (y - 0.4) ** 2)  # the same lamp above each
    shots = [np.clip(light + rng.normal(0, 12, light.shape), 0, 255).astype(np.uint8) for _ in range(20)]
    names = [str(number) for number in range(len(shots))]
    assert find_duplicates(names, names, [thumbnail(Pictures.fromarray(shot)) for shot in shots]) == ()


def test_plain_and_unreadable_images_are_copies_only_if_their_bytes_are() -> None:
    plain = np.full((SIZE, SIZE), 7, np.uint8)
    assert find_duplicates(["a", "b", "c", "d"], ["1", "1", "2", "3"], [plain, plain, plain, None]) == (("a", "b"),)
    assert find_duplicates(["a", "b"], ["1", "1"], [None, None]) == (("a", "b"),)


def test_any_number_of_look_alikes_takes_a_bounded_amount_of_memory() -> None:
    """Their pairs grow with the square of their number: two million for these, of at least 72 bytes each."""
    rng = np.random.default_rng(0)
    picture = rng.integers(60, 200, (SIZE, SIZE))
    re_encoded = [(picture + rng.integers(-3, 4, picture.shape)).astype(np.uint8) for _ in range(1000)]
    thumbnails = [*re_encoded, *re_encoded[:1] * 1000]
    names = [f"{number:04}" for number in range(len(thumbnails))]

    tracemalloc.start()
    try:
        assert find_duplicates(names, names, thumbnails) == (tuple(names),)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 15_000 * len(names)


def images(**splits: Split) -> list[Image]:
    return [Image(path, 0, split) for path, split in splits.items()]


def test_copies_follow_to_the_training_images_as_far_as_their_splits_were_drawn() -> None:
    given = images(a="train", b="test", c="val", d="test", e="test")
    together = keep_together(given, frozenset("abcd"), (("a", "b"), ("c", "d")), {"d": "group", "e": "group"})
    assert [image.split for image in together.images] == ["train", "train", "val", "val", "test"]
    assert together.moved == 2
    assert crossing_sets(together.images, (("a", "b"), ("c", "d", "e"))) == (("c", "d", "e"),)


def test_lines_name_what_is_wrong() -> None:
    given = [Image("a", 0, "train"), Image("b", 1, "train"), Image("c", 0, "train"), Image("d", 0, "test")]
    lines = list(duplicate_lines(given, (("a", "b"), ("c", "d")), 3))
    assert len(lines) == 4
    assert "2 images" in lines[0]
    assert "a = b" in lines[1]
    assert "c = d" not in lines[1]
    assert "3 images" in lines[2]
    assert "c = d" in lines[3]
    assert list(duplicate_lines(given, (), 0)) == []
