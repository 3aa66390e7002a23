"""One decoded image -> its crops: the encoder's own centre crop, and random views.

No torch here: the processes that decode import this module, and start in a fifth of a second without it. The centre
crop is open_clip's preprocessing (`open_clip.transform.image_transform`) up to, not including, the normalisation.
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from features.encoding.images import MAX_PIXELS, UnreadableImageError
from features.errors import InputError

RATIO = (3 / 4, 4 / 3)  # width to height of a random crop: torchvision's RandomResizedCrop, as all the papers use it
TRIES = 10  # draws before a random crop falls back on the centre, as there
RESAMPLE = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Preprocess:
    """How an encoder wants its pixels, as data.

    Attributes:
        size: (height, width) in pixels.
        mean, std: of each channel, for pixels in [0, 1].
        interpolation: of every resize.
        resize_mode: `shortest` side to `size` and crop, `longest` side to `size` and pad, or `squash`.
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
        """From open_clip's `PreprocessCfg` as a dictionary."""
        size = config["size"]
        return cls(
            size=(size, size) if isinstance(size, int) else (size[0], size[-1]),
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            # open_clip's `random` means bicubic where nothing is trained
            interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
            resize_mode=config["resize_mode"],
            fill_color=config["fill_color"],
        )


@dataclass(frozen=True)
class Views:
    """The stored random views of a training image.

    Attributes:
        count: how many, beside the centre crop. scale: least and largest share of the image's area. seed: of all.
    """

    count: int
    scale: tuple[float, float]
    seed: int

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise InputError(f"extract.view_scale: {list(self.scale)} must be two shares, 0 < least <= largest <= 1")


def fill_crops(image: Image.Image, path: str, preprocess: Preprocess, views: Views, out: NDArray[np.uint8]) -> None:
    """Fill `out` (K, height, width, 3) with view 0, the centre crop, and views 1 to K - 1.

    `path` is the image's in the index: a view depends on it, on the view's number and on `views.seed` alone.
    """
    out[0] = np.asarray(centre_crop(image, preprocess))
    for number in range(1, len(out)):
        out[number] = np.asarray(random_view(image, preprocess, views.scale, f"{views.seed}/{number}/{path}"))


def centre_crop(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    """What open_clip's preprocessing shows the encoder, to the pixel.

    Raises:
        UnreadableImageError: the image is so elongated that resizing its shorter side would fill the memory.
    """
    height, width = preprocess.size
    resample = RESAMPLE[preprocess.interpolation]
    if preprocess.resize_mode == "squash":
        return image.resize((width, height), resample)
    if max(width / image.width * image.height * width, height / image.height * image.width * height) > MAX_PIXELS:
        raise UnreadableImageError(f"{image.width} x {image.height} pixels: too elongated to be cropped square")
    if preprocess.resize_mode == "shortest" and height == width:
        image = image.resize(_shortest_to(image.size, height), resample)
    else:
        relations = (image.height / height, image.width / width)
        longest = preprocess.resize_mode == "longest"
        relation = max(relations) if longest else min(relations)
        # open_clip resizes with its default, bicubic, when a crop that is not square is asked for
        resample = resample if longest else Image.Resampling.BICUBIC
        image = image.resize((round(image.width / relation), round(image.height / relation)), resample)
    return _centre_or_pad(image, height, width, preprocess.fill_color if preprocess.resize_mode == "longest" else 0)


def _shortest_to(size: tuple[int, int], target: int) -> tuple[int, int]:
    """Torchvision's Resize with one number: the longer side is cut off to whole pixels, not rounded."""
    width, height = size
    longer = int(target * max(size) / min(size))
    return (target, longer) if width <= height else (longer, target)


def _centre_or_pad(image: Image.Image, height: int, width: int, fill: int) -> Image.Image:
    missing = max(0, width - image.width), max(0, height - image.height)
    if any(missing):
        across, down = missing
        border = (across // 2, down // 2, (across + 1) // 2, (down + 1) // 2)
        image = ImageOps.expand(image, border, fill=(fill, fill, fill))
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def random_view(image: Image.Image, preprocess: Preprocess, scale: tuple[float, float], key: str) -> Image.Image:
    """A random resized crop, flipped half of the time; `key` alone decides which."""
    rng = _generator(key)
    left, top, width, height = _random_box(image.width, image.height, scale, rng)
    view = image.crop((left, top, left + width, top + height))
    view = view.resize(preprocess.size[::-1], RESAMPLE[preprocess.interpolation])
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else view


def _generator(key: str) -> random.Random:
    """Python's own generator, because its stream for a seed is promised to stay the same in later versions."""
    return random.Random(int.from_bytes(hashlib.sha256(key.encode()).digest()))  # noqa: S311 - no secret depends on it


def _random_box(width: int, height: int, scale: tuple[float, float], rng: random.Random) -> tuple[int, int, int, int]:
    """(left, top, width, height) by the rule of torchvision's `RandomResizedCrop.get_params`."""
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    for _ in range(TRIES):
        area = width * height * (scale[0] + (scale[1] - scale[0]) * rng.random())
        ratio = math.exp(low + (high - low) * rng.random())
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.random() * (width - w + 1)), int(rng.random() * (height - h + 1)), w, h
    ratio = min(max(width / height, RATIO[0]), RATIO[1])
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    return (width - w) // 2, (height - h) // 2, w, h
