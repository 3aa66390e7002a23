"""Classes with too few images for the shots are refused, and all of them are named."""

from __future__ import annotations

import numpy as np
import pytest

from features.errors import InputError
from pipeline.steps.sampling import draw

NAMES = {0: "cat", 1: "dog", 2: "okapi"}
LABELS = np.array([0, 0, 0, 1, 1, -1, -1])  # -1: images that could not be read


@pytest.mark.parametrize(
    ("shots", "few"),
    [
        (None, ["'okapi' has 0"]),
        (2, ["'okapi' has 0"]),
        (3, ["'dog' has 2", "'okapi' has 0"]),
        (99, ["'cat' has 3", "'dog' has 2", "'okapi' has 0"]),
    ],
)
def test_classes_with_fewer_images_than_shots_are_all_named(shots: int | None, few: list[str]) -> None:
    with pytest.raises(InputError, match=f"{shots or 1} images of every class are needed") as caught:
        draw(LABELS, NAMES, shots, seed=1)
    assert [line.removeprefix("  - ") for line in str(caught.value).splitlines()[1:]] == few


def test_unreadable_images_are_never_drawn() -> None:
    drawn = draw(LABELS, {0: "cat", 1: "dog"}, None, seed=1)
    assert drawn.tolist() == [0, 1, 2, 3, 4]
