"""Families of views: which crops an image has, and where those of a family are among them."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import picture

from features.encoding.augment import Preprocess, Views, fill_crops
from features.encoding.view_families import positions_of
from features.errors import InputError

NARROW, WIDE, CLOSE = (0.5, 1.0), (0.08, 1.0), (0.05, 0.1)
PREPROCESS = Preprocess((32, 32), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bicubic", "shortest")


def crops(views: Views) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    out = np.zeros((views.crops, 32, 32, 3), np.uint8)
    fill_crops(picture(0), "a.png", PREPROCESS, views, out)
    return out


def test_a_family_has_the_views_that_it_would_have_alone() -> None:
    families = {"wide": WIDE, "close": CLOSE}
    together = crops(Views(3, NARROW, 0, families))
    assert together.shape == (10, 32, 32, 3)
    for family, scale in {None: NARROW, **families}.items():
        alone = crops(Views(3, scale, 0))
        assert np.array_equal(together[positions_of(family, families, 10, "store")], alone)
    assert not np.array_equal(together[1:4], together[4:7])


def test_an_image_without_views_has_its_centre_crop_in_every_family() -> None:
    assert [positions_of(family, ["wide"], 1, "store") for family in (None, "wide")] == [[0], [0]]


def test_an_unknown_family_is_an_error_with_the_nearest_known_one() -> None:
    with pytest.raises(InputError, match=r"train\.h5 .*'wid'.*'wide'\?.*extract\.view_families"):
        positions_of("wid", ["wide", "close"], 7, "train.h5")


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.6, 0.5), (0.5, 1.5)])
def test_an_invalid_area_is_an_error_that_names_the_family(scale: tuple[float, float]) -> None:
    with pytest.raises(InputError, match=r"extract\.view_families\.wide"):
        Views(1, NARROW, 0, {"wide": scale})
