"""Read image files of every kind as RGB; a file that cannot be read raises one kind of error."""

from __future__ import annotations

import importlib
import io
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from features.encoding.image_bytes import DEEP_MODES, PNG, deep_values, with_end, without_texts
from features.encoding.video import is_avi, middle_frame

ORIENTATION = ExifTags.Base.Orientation
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# The formats of photographs. Pillow's other readers are left out: some start programs (EPS), most are little tested.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
ISO_FORMATS = ("AVIF", "HEIF")  # formats in ISO's container, whose bytes 4 to 8 are `ftyp`
MAX_PIXELS = 1 << 28  # 0.8 GB as RGB; more may be a decompression bomb, so a setting must allow it
PILLOW_WARNING_FILTER = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # as `warnings.filters` stores it


class UnreadableImageError(Exception):
    """A file that cannot be decoded whole as an image; the text is the reason."""


@dataclass(frozen=True)
class Reading:
    """How the pixels of a data set's images are read: one rule for all of them, and a part of a store's identity.

    The default is what open_clip's and the papers' own loaders do. Colour profiles are applied by neither rule: the
    numbers in the file are taken as sRGB, and CMYK is converted by Pillow's formula.

    Attributes:
        upright: Turn an image as its EXIF orientation says, as viewers do.
        levels: The values that become 0 and 255 in images with more than 8 bits a channel. None: the full range of 16
            bits, and floating point is refused.
        max_pixels: The size, width times height, up to which an image is read. A JPEG of any size is.
    """

    upright: bool = False
    levels: tuple[float, float] | None = None
    max_pixels: int = MAX_PIXELS

    def provenance(self) -> dict[str, Any]:
        """Return what differs from the default, for the metadata of an index, a store or an export."""
        return {
            **({"upright": True} if self.upright else {}),
            **({"levels": list(self.levels)} if self.levels else {}),
            **({"max_pixels": self.max_pixels} if self.max_pixels != MAX_PIXELS else {}),
        }

    @classmethod
    def from_provenance(cls, values: Mapping[str, Any]) -> Reading:
        """Read what `provenance` returned; other keys are ignored."""
        levels = values.get("levels")
        return cls(
            upright=bool(values.get("upright")),
            levels=(float(levels[0]), float(levels[1])) if levels else None,
            max_pixels=int(values.get("max_pixels", MAX_PIXELS)),
        )


AS_IN_THE_PAPERS = Reading()


def read_image(path: Path, reading: Reading = AS_IN_THE_PAPERS) -> Image.Image:
    """Read an image file as RGB; see `decode`.

    Raises:
        UnreadableImageError: the file cannot be opened or not be decoded whole.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # a ValueError is a path with a null byte
        raise UnreadableImageError(getattr(error, "strerror", None) or str(error)) from error
    return decode(data, reading)


def decode(data: bytes, reading: Reading = AS_IN_THE_PAPERS) -> Image.Image:
    """Decode a file's bytes as RGB: the first picture, or the middle frame of an AVI.

    Transparency is put on white. A JPEG of more than `MAX_PIXELS` is decoded at half, a quarter or an eighth of its
    size.

    Raises:
        UnreadableImageError: the data are empty, truncated, too large, of an unknown format, or no image.
    """
    with _as_unreadable(data):
        if is_avi(data):
            return middle_frame(data)
        image = _open(data, reading.max_pixels)
        try:
            return _to_rgb(image, reading)
        except OSError:
            if image.format != "JPEG":
                raise
            return _complete(data, reading)


class ValueRange(NamedTuple):
    """The smallest and largest finite value of an image with more than 8 bits a channel, and whether it is float."""

    low: float
    high: float
    floating: bool


def inspect(data: bytes, size: int, max_pixels: int = MAX_PIXELS) -> tuple[ValueRange | None, NDArray[np.uint8]]:
    """Return the value range of an image, None if it has 8 bits a channel, and its grey thumbnail (size, size).

    The thumbnail is upright. A JPEG is decoded at reduced size, so this is several times as fast as `decode`.

    Raises:
        UnreadableImageError: as `decode`.
    """
    with _as_unreadable(data):
        if is_avi(data):
            found, image = None, middle_frame(data)
        else:
            opened = _open(data, max_pixels)
            opened.draft(opened.mode, (4 * size, 4 * size))
            found = _value_range(deep_values(opened))
            reading = Reading(upright=True, levels=levels_for([found]) if found else None, max_pixels=max_pixels)
            try:
                image = decode(data, reading) if found else _to_rgb(opened, reading)
            except OSError:  # a JPEG whose end is missing
                image = decode(data, reading)
        return found, np.asarray(image.convert("L").resize((size, size), Image.Resampling.BOX))


def value_range(data: bytes, max_pixels: int = MAX_PIXELS) -> ValueRange | None:
    """Return the value range of an image, None if it has 8 bits a channel; such an image is not decoded.

    Raises:
        UnreadableImageError: the data do not begin as an image, or a deep one cannot be decoded.
    """
    with _as_unreadable(data):
        return None if is_avi(data) else _value_range(deep_values(_open(data, max_pixels)))


def _value_range(values: NDArray[Any] | None) -> ValueRange | None:
    if values is None:
        return None
    values = values[..., :3] if values.ndim == 3 else values
    finite = values[np.isfinite(values)]
    floating = bool(np.issubdtype(values.dtype, np.floating))
    return ValueRange(float(finite.min()), float(finite.max()), floating) if finite.size else None


def levels_for(ranges: Iterable[ValueRange]) -> tuple[float, float] | None:
    """Return the levels of a data set from the value ranges of its images; None if there are none.

    White is the largest number of as many bits as the values need, at least 8: 4095 for a detector of 12 bits. Floats
    up to 1 are taken as shares of 1. With negative values, black and white are the smallest and the largest; of floats
    in a range that no number of bits has, white is the largest.
    """
    found = list(ranges)
    if not found:
        return None
    low, high = min(low for low, _, _ in found), max(high for _, high, _ in found)
    if low < 0:
        return low, max(high, low + 1)
    if all(floating for _, _, floating in found) and high < 128:
        return 0.0, max(1.0, high)
    return 0.0, float(2 ** max(8, math.ceil(math.log2(math.floor(high) + 1))) - 1)


@contextmanager
def _as_unreadable(data: bytes) -> Iterator[None]:
    """Turn every error over an image's bytes into an `UnreadableImageError`."""
    try:
        yield
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        beginning = f"it begins with {data[:12]!r}" if data else "it is empty"
        known = ", ".join((*FORMATS, *ISO_FORMATS))
        raise UnreadableImageError(f"not an image of a known format ({known}): {beginning}") from error
    except Exception as error:  # Pillow's and PyAV's readers raise nearly every kind over damaged data
        raise UnreadableImageError(f"{error or type(error).__name__}") from error


def _open(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """Open an image and check its size; nothing is decoded yet.

    A large JPEG will be decoded at reduced size, whatever `max_pixels` is, so that a higher one changes no pixel.
    """
    _set_up_pillow()
    iso = data[4:8] == b"ftyp"
    if iso:
        _register_heif()
    content = without_texts(data) if data.startswith(PNG) else data
    image = Image.open(io.BytesIO(content), formats=ISO_FORMATS if iso else FORMATS)

    width, height = image.size
    for scale in (2, 4, 8) if image.format == "JPEG" else ():
        if image.width * image.height > MAX_PIXELS:
            image.draft(image.mode, (width // scale, height // scale))
    if image.width * image.height > max_pixels:
        raise UnreadableImageError(
            f"{width} x {height} pixels; at most {max_pixels:,} are read: store it smaller, or raise `max_pixels` (an "
            "option of `predict`, `serve` and `task new`, and of a data set in params.yaml)"
        )
    return image


_lock = Lock()


def _set_up_pillow() -> None:
    """Replace Pillow's own limit of pixels by ours, and ignore its warnings, in this process from now on.

    Odd metadata are no reason to refuse a picture. `warnings.catch_warnings` is of no use here: it swaps the one list
    that all threads share, and restores an old one.
    """
    with _lock:
        Image.MAX_IMAGE_PIXELS = None
        if PILLOW_WARNING_FILTER not in warnings.filters:
            warnings.filterwarnings("ignore", module=r"PIL\.")


@cache
def _register_heif() -> None:
    """Teach Pillow to read HEIF, when the first such file comes: the import takes as long as the start of a process."""
    pillow_heif = importlib.import_module("pillow_heif")
    pillow_heif.register_heif_opener()


def _complete(data: bytes, reading: Reading) -> Image.Image:
    """Decode a JPEG whose end is missing, if only the mark of the end is.

    What lies behind a complete picture is ignored, so different fillings give the same picture. In an incomplete one
    they become different pixels.

    Raises:
        UnreadableImageError: a part of the picture is missing, too.
    """
    first, second = (
        _to_rgb(_open(with_end(data, filling), reading.max_pixels), reading) for filling in (b"\x00", b"\x55")
    )
    if first.tobytes() != second.tobytes():
        raise UnreadableImageError("truncated: a part of the picture is missing")
    return first


def _to_rgb(image: ImageFile.ImageFile, reading: Reading) -> Image.Image:
    """Return an opened image as RGB."""
    values = deep_values(image) if reading.levels or image.mode in DEEP_MODES else None
    if values is not None:
        image.load()  # TIFF turns itself by its orientation, which it then forgets
    rgb = _flattened(image) if values is None else _scaled(values, reading.levels)

    turn = TURNS.get(_orientation(image)) if reading.upright else None
    return rgb.transpose(turn) if turn is not None else rgb


def _flattened(image: Image.Image) -> Image.Image:
    """Return an image of 8 bits as RGB, on white where it is transparent."""
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if the metadata cannot be read, as viewers do."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # noqa: BLE001 (Pillow raises nearly every kind over damaged metadata)
        return 1


def _scaled(values: NDArray[Any], levels: tuple[float, float] | None) -> Image.Image:
    """Scale (H, W) grey or (H, W, 3 or 4) colour of more than 8 bits to RGB of 8 bits; Pillow itself would clip it."""
    floating = np.issubdtype(values.dtype, np.floating)
    if levels is None:
        if floating:
            raise UnreadableImageError("floating-point pixels have no defined white; save the image with 8 or 16 bits")
        if values.min() < 0 or values.max() > 65535:
            raise UnreadableImageError(f"grey values from {values.min()} to {values.max()}; at most 16 bits are read")
    if floating and not np.isfinite(values).all():
        raise UnreadableImageError(f"{np.count_nonzero(~np.isfinite(values)):,} values are not finite numbers")

    black, white = levels or (0.0, 65535.0)
    colour = values[..., :3] if values.ndim == 3 else values
    shares = np.clip((colour.astype(np.float64) - black) / (white - black), 0, 1)
    if values.ndim == 3 and values.shape[2] == 4:
        alpha = values[..., 3:] / (white if values[..., 3].max() <= white else 65535.0)
        shares = shares * alpha + (1 - alpha)
    return Image.fromarray((255 * shares + 0.5).astype(np.uint8)).convert("RGB")
