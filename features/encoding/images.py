"""Image files -> RGB, the same way whatever the file holds, and one error for those that cannot be read."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image, UnidentifiedImageError

from features.encoding.video import is_avi, middle_frame

# What photographs come as. Pillow's other readers are left out: some start programs (EPS), most see no testing.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
MAX_PIXELS = 89_478_485  # Pillow's own limit: a quarter of a GiB as RGB; larger ones are taken for bombs
PILLOWS_WARNINGS = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # as `filterwarnings` keeps it
DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # modes of one channel with more than 8 bits


class UnreadableImageError(Exception):
    """A file that is no image which can be decoded whole; the text says why."""


def read_image(path: Path) -> Image.Image:
    """Read an image file as RGB; see `decode`.

    Raises:
        UnreadableImageError: it cannot be opened, or not be decoded whole.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(error.strerror or str(error)) from error
    return decode(data)


def decode(data: bytes) -> Image.Image:
    """The first picture in a file's bytes, or the middle frame of an AVI, as RGB.

    Transparency is put on white. 16-bit grey is scaled to 8 bits. EXIF rotation is not applied and colour profiles are
    not, because open_clip's and the papers' own loaders do neither.

    Raises:
        UnreadableImageError: empty, truncated, too large, of a format that is not in `FORMATS`, or no image.
    """
    try:
        if is_avi(data):
            return middle_frame(data)
        _let_odd_metadata_be()
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _refuse_bombs(image)
        return _to_rgb(image)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        what = f"it begins with {data[:12]!r}" if data else "it is empty"
        raise UnreadableImageError(f"not an image of a known format ({', '.join(FORMATS)}): {what}") from error
    except Exception as error:
        raise UnreadableImageError(f"{error or type(error).__name__}") from error


_filters = Lock()


def _let_odd_metadata_be() -> None:
    """Have Pillow's warnings ignored in this process from now on: odd metadata is no reason to refuse a picture.

    Not by `warnings.catch_warnings`, which changes the one list that all threads share, and puts an old one back.
    """
    with _filters:
        if PILLOWS_WARNINGS not in warnings.filters:
            warnings.filterwarnings("ignore", module=r"PIL\.")


def _refuse_bombs(image: Image.Image) -> None:
    # Before anything is decoded; of such a size Pillow itself only warns, and its check can be switched off by others.
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadableImageError(f"{width} x {height} pixels; more than {MAX_PIXELS:,} are refused")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in DEEP:
        return _from_deep(image)
    if image.mode == "F":
        raise UnreadableImageError("floating-point pixels, whose white is not defined; save it with 8 or 16 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    """Grey of 16 bits scaled to 8; Pillow's own conversion would clip it to white."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise UnreadableImageError(f"grey values from {values.min()} to {values.max()}; at most 16 bits are read")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
