"""Crops: the centre crop equals open_clip's to the pixel; a view depends on its image, number and seed alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pictures import picture
from PIL import Image

from features.encoding.augment import (
    RATIO,
    Preprocess,
    Views,
    _generator,
    _random_box,
    centre_crop,
    fill_crops,
    random_view,
)
from features.encoding.images import UnreadableImageError
from features.errors import InputError

SIZES = [(50, 40), (40, 50), (33, 33), (32, 32), (20, 90), (90, 20), (7, 5), (1, 1), (64, 63), (301, 200), (200, 301)]
CONFIGS: list[dict[str, Any]] = [
    {"size": 32},
    {"size": 32, "interpolation": "bilinear"},
    {"size": 32, "resize_mode": "squash"},
    {"size": (32, 24), "resize_mode": "squash", "interpolation": "bilinear"},
    {"size": 32, "resize_mode": "longest", "fill_color": 7},
    {"size": (24, 32), "resize_mode": "longest"},
    {"size": (24, 32)},
    {"size": (32, 24), "interpolation": "bilinear"},
]


def preprocess_and_transform(**config: Any) -> tuple[Preprocess, Any]:
    import open_clip

    cfg = open_clip.transform.PreprocessCfg(**config)
    return Preprocess.from_open_clip(vars(cfg)), open_clip.transform.image_transform_v2(cfg, is_train=False)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_centre_crop_equals_open_clips(config: dict[str, Any], size: tuple[int, int]) -> None:
    preprocess, transform = preprocess_and_transform(**config)
    image = picture(3).resize(size)
    ours = torch.from_numpy(np.asarray(centre_crop(image, preprocess)).copy()).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std))
    assert torch.equal((ours - mean) / std, transform(image))


def test_elongated_images_do_not_fill_the_memory() -> None:
    with pytest.raises(UnreadableImageError, match="1 x 60000"):
        centre_crop(Image.new("RGB", (1, 60_000)), preprocess_and_transform(size=224)[0])


def stack(image: Image.Image, path: str, views: Views, preprocess: Preprocess) -> NDArray[np.uint8]:
    out = np.zeros((1 + views.count, *preprocess.size, 3), np.uint8)
    fill_crops(image, path, preprocess, views, out)
    return out


def test_views_depend_on_seed_path_and_number_only() -> None:
    preprocess, image = preprocess_and_transform(size=32)[0], picture(0)
    first = stack(image, "a.png", Views(6, (0.5, 1.0), 0), preprocess)
    stack(image, "b.png", Views(3, (0.5, 1.0), 0), preprocess)  # earlier images must not matter
    fewer = stack(image, "a.png", Views(2, (0.5, 1.0), 0), preprocess)
    assert np.array_equal(first[:3], fewer)
    others = (
        stack(image, "b.png", Views(6, (0.5, 1.0), 0), preprocess),
        stack(image, "a.png", Views(6, (0.5, 1.0), 1), preprocess),
    )
    for other in others:
        assert np.array_equal(first[0], other[0])
        assert not any(np.array_equal(*pair) for pair in zip(first[1:], other[1:], strict=True))
    assert len({view.tobytes() for view in first}) == 7


def test_boxes_have_torchvisions_distribution() -> None:
    drawn = [_boxes(size, 400) for size in ((60, 40), (40, 60))]
    for (width, height), boxes in zip(((60, 40), (40, 60)), drawn, strict=True):
        left, top, w, h = np.array(boxes).T
        assert (left >= 0).all()
        assert (top >= 0).all()
        assert (left + w <= width).all()
        assert (top + h <= height).all()
        share, ratio = w * h / (width * height), w / h
        assert 0.47 < share.min() < 0.56
        assert 0.8 < share.max() <= 1.0
        assert RATIO[0] - 0.03 < ratio.min()
        assert ratio.max() < RATIO[1] + 0.03
        expected = _torchvision_boxes((width, height), 400)
        for ours, theirs in zip((left, top, w, h), expected.T, strict=True):
            assert abs(ours.mean() - theirs.mean()) < 4 * theirs.std() / 20 + 0.1


def _boxes(size: tuple[int, int], count: int) -> list[tuple[int, int, int, int]]:
    return [_random_box(*size, (0.5, 1.0), _generator(str(seed))) for seed in range(count)]


def _torchvision_boxes(size: tuple[int, int], count: int) -> NDArray[np.int64]:
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    image = torch.zeros(3, size[1], size[0])
    drawn = [RandomResizedCrop.get_params(image, [0.5, 1.0], list(RATIO)) for _ in range(count)]
    return np.array([(left, top, w, h) for top, left, h, w in drawn])


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3)], ids=str)
def test_boxes_of_odd_images_are_inside(size: tuple[int, int]) -> None:
    for left, top, w, h in _boxes(size, 20):
        assert 0 <= left < left + w <= size[0]
        assert 0 <= top < top + h <= size[1]


def test_about_half_of_the_views_are_flipped() -> None:
    preprocess = preprocess_and_transform(size=32)[0]
    ramp = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))).convert("RGB")
    views = [np.asarray(random_view(ramp, preprocess, (1.0, 1.0), str(number)), int) for number in range(100)]
    flipped = sum(bool(view[0, 0, 0] > view[0, -1, 0]) for view in views)
    assert 35 < flipped < 65


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_view_is_torchvisions_resized_crop(interpolation: str) -> None:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import hflip, resized_crop

    preprocess, image = preprocess_and_transform(size=(24, 32), interpolation=interpolation)[0], picture(5)
    for key in "abcd":
        rng = _generator(key)
        left, top, w, h = _random_box(*image.size, (0.5, 1.0), rng)
        flip = rng.random() < 0.5
        expected = resized_crop(image, top, left, h, w, [24, 32], InterpolationMode(interpolation))
        view = random_view(image, preprocess, (0.5, 1.0), key)
        assert np.array_equal(np.asarray(view), np.asarray(hflip(expected) if flip else expected))


def test_views_are_pinned() -> None:
    """Pin the boxes: a change alters the views of every store, so raise `extraction.extract.REVISION` with it."""
    assert _boxes((500, 375), 3) == PINNED


PINNED = [(46, 1, 328, 372), (72, 53, 362, 316), (7, 34, 435, 334)]


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.8, 0.5), (0.5, 1.1)])
def test_invalid_view_scales_are_errors(scale: tuple[float, float]) -> None:
    with pytest.raises(InputError, match=r"extract\.view_scale"):
        Views(1, scale, 0)
