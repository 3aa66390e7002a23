"""Crop a decoded image: the encoder's own centre crop, and random views.

This module must not import torch: the processes that decode import it, and start in 0.2 s without torch. The centre
crop equals open_clip's preprocessing (`open_clip.transform.image_transform`) up to, not including, the normalization.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from features.encoding.images import MAX_PIXELS, UnreadableImageError
from features.encoding.view_families import crops_of
from features.errors import InputError

RATIO = (3 / 4, 4 / 3)  # width / height of a random crop: torchvision's RandomResizedCrop, which all three papers use
TRIES = 10  # random boxes that are tried before the centre is taken, as in torchvision
RESAMPLE = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Preprocess:
    """The pixels that an encoder expects, as data.

    Attributes:
        size: (height, width) in pixels.
        mean, std: of each channel, for pixels in [0, 1].
        interpolation: of every resize.
        resize_mode: `shortest` resizes the shorter side to `size` and crops, `longest` resizes the longer side and
            pads, `squash` resizes both sides.
        fill_color: grey level of the padding.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Literal["bicubic", "bilinear"]
    resize_mode: Literal["shortest", "longest", "squash"]
    fill_color: int = 0

    @classmethod
    def from_open_clip(cls, config: dict[str, Any]) -> Preprocess:
        """Convert open_clip's `PreprocessCfg`, given as a dictionary."""
        size = config["size"]
        return cls(
            size=(size, size) if isinstance(size, int) else (size[0], size[-1]),
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            # open_clip's `random` is bicubic outside training.
            interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
            resize_mode=config["resize_mode"],
            fill_color=config["fill_color"],
        )


Scale = tuple[float, float]  # smallest and largest area of a view, as a share of the image's area


@dataclass(frozen=True)
class Views:
    """Settings of the stored random views of training images, in one family or more.

    The views of a family differ in their area from those of another. Features (N, K, D) of the training split hold view
    0, the centre crop, then `count` views of each family: K = `crops`. The other splits have K = 1.

    Attributes:
        count: number of random views of an image in each family.
        scale: area of the views of the first family, which has no name.
        seed: seed of all views.
        families: name -> area of the other families; they are stored in alphabetical order.
    """

    count: int
    scale: Scale
    seed: int
    families: Mapping[str, Scale] = field(default_factory=dict)

    def __post_init__(self) -> None:
        areas = {"view_scale": self.scale, **{f"view_families.{name}": area for name, area in self.families.items()}}
        for key, (low, high) in areas.items():
            if not 0 < low <= high <= 1:
                raise InputError(f"invalid extract.{key} {[low, high]}: expected 0 < smallest <= largest <= 1")

    @property
    def crops(self) -> int:
        """Return K, the crops of a training image, the centre crop included."""
        return crops_of(self.count, self.families)

    @property
    def scales(self) -> list[Scale]:
        """Return the area of each family, in the order in which they are stored."""
        return [self.scale, *(self.families[name] for name in sorted(self.families))]


def fill_crops(image: Image.Image, path: str, preprocess: Preprocess, views: Views, out: NDArray[np.uint8]) -> None:
    """Fill `out` (K, height, width, 3) with view 0, the centre crop, and the first K - 1 views of all families.

    `path` is the image's path in the index. A view depends on this path, its number in its family, the area and
    `views.seed` alone, so not on the batch, the worker, a resume or other families.
    """
    out[0] = np.asarray(centre_crop(image, preprocess))
    numbered = [(scale, number) for scale in views.scales for number in range(1, views.count + 1)]
    for crop, (scale, number) in zip(out[1:], numbered, strict=False):
        crop[...] = np.asarray(random_view(image, preprocess, scale, f"{views.seed}/{number}/{path}"))


def centre_crop(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    """Return what open_clip's preprocessing shows the encoder, to the pixel.

    Raises:
        UnreadableImageError: the image is so elongated that resizing its shorter side would fill the memory.
    """
    height, width = preprocess.size
    resample = RESAMPLE[preprocess.interpolation]
    if preprocess.resize_mode == "squash":
        return image.resize((width, height), resample)

    # Number of pixels after the shorter side was resized: 1 x 60,000 pixels would become 224 x 13,440,000.
    if max(width / image.width * image.height * width, height / image.height * image.width * height) > MAX_PIXELS:
        raise UnreadableImageError(f"{image.width} x {image.height} pixels: too elongated to be cropped square")

    if preprocess.resize_mode == "shortest" and height == width:
        image = image.resize(_shortest_to(image.size, height), resample)
    else:
        factors = (image.height / height, image.width / width)
        pads = preprocess.resize_mode == "longest"
        factor = max(factors) if pads else min(factors)
        # open_clip resizes with its default, bicubic, if the crop is not square.
        resample = resample if pads else Image.Resampling.BICUBIC
        image = image.resize((round(image.width / factor), round(image.height / factor)), resample)
    return _centre_or_pad(image, height, width, preprocess.fill_color if preprocess.resize_mode == "longest" else 0)


def _shortest_to(size: tuple[int, int], target: int) -> tuple[int, int]:
    """Return the (width, height) of torchvision's Resize with one number, which truncates the longer side."""
    width, height = size
    longer = int(target * max(size) / min(size))
    return (target, longer) if width <= height else (longer, target)


def _centre_or_pad(image: Image.Image, height: int, width: int, fill: int) -> Image.Image:
    """Pad a side that is too short, then cut out the centre, as torchvision's CenterCrop does."""
    across, down = max(0, width - image.width), max(0, height - image.height)
    if across or down:
        border = (across // 2, down // 2, (across + 1) // 2, (down + 1) // 2)
        image = ImageOps.expand(image, border, fill=(fill, fill, fill))

    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def random_view(image: Image.Image, preprocess: Preprocess, scale: Scale, key: str) -> Image.Image:
    """Return a random resized crop, flipped half of the time; `key` alone decides which."""
    rng = _generator(key)
    left, top, width, height = _random_box(image.width, image.height, scale, rng)
    view = image.crop((left, top, left + width, top + height))
    view = view.resize(preprocess.size[::-1], RESAMPLE[preprocess.interpolation])

    # The flip is drawn last: the order of the draws is part of what every store holds.
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else view


def _generator(key: str) -> random.Random:
    """Return Python's own generator; its stream for a seed is guaranteed to stay the same in later versions."""
    return random.Random(int.from_bytes(hashlib.sha256(key.encode()).digest()))  # noqa: S311 - no secret depends on it


def _random_box(width: int, height: int, scale: Scale, rng: random.Random) -> tuple[int, int, int, int]:
    """Draw (left, top, width, height) by the rule of torchvision's `RandomResizedCrop.get_params`."""
    # The ratio is drawn on a log scale, so that 3:4 and 4:3 are equally likely.
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    for _ in range(TRIES):
        area = width * height * (scale[0] + (scale[1] - scale[0]) * rng.random())
        ratio = math.exp(low + (high - low) * rng.random())
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.random() * (width - w + 1)), int(rng.random() * (height - h + 1)), w, h

    # No box fitted, as in an elongated image: the largest centre box of an allowed ratio.
    ratio = min(max(width / height, RATIO[0]), RATIO[1])
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    return (width - w) // 2, (height - h) // 2, w, h
