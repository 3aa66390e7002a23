"""Read image files of every kind as RGB; a file that cannot be read raises one kind of error."""

from __future__ import annotations

import importlib
import io
import re
import warnings
from functools import cache
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image, UnidentifiedImageError

from features.encoding.video import is_avi, middle_frame

# The formats of photographs. Pillow's other readers are left out: some start programs (EPS), most are little tested.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF")
MAX_PIXELS = 89_478_485  # Pillow's own limit, a quarter of a GiB as RGB; larger images count as decompression bombs
PILLOW_WARNING_FILTER = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # as `warnings.filters` stores it
MODES_OF_16_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # one channel with more than 8 bits


class UnreadableImageError(Exception):
    """A file that cannot be decoded whole as an image; the text is the reason."""


def read_image(path: Path) -> Image.Image:
    """Read an image file as RGB; see `decode`.

    Raises:
        UnreadableImageError: the file cannot be opened or not be decoded whole.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(error.strerror or str(error)) from error
    return decode(data)


def decode(data: bytes) -> Image.Image:
    """Decode a file's bytes as RGB: the first picture, or the middle frame of an AVI.

    Transparency is put on white, and 16-bit grey is scaled to 8 bits. EXIF rotation and colour profiles are not
    applied, because open_clip's and the papers' own loaders apply neither.

    Raises:
        UnreadableImageError: the data are empty, truncated, too large, of a format outside `FORMATS`, or no image.
    """
    try:
        if is_avi(data):
            return middle_frame(data)
        _silence_pillow_warnings()
        if data[4:8] == b"ftyp":
            _register_heif()
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_size(image)
        return _to_rgb(image)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        beginning = f"it begins with {data[:12]!r}" if data else "it is empty"
        raise UnreadableImageError(f"not an image of a known format ({', '.join(FORMATS)}): {beginning}") from error
    except Exception as error:  # Pillow's and PyAV's readers raise nearly every kind over damaged data
        raise UnreadableImageError(f"{error or type(error).__name__}") from error


_filters = Lock()


def _silence_pillow_warnings() -> None:
    """Ignore Pillow's warnings in this process from now on: odd metadata are no reason to refuse a picture.

    `warnings.catch_warnings` is of no use here. It swaps the one list that all threads share, and restores an old one.
    """
    with _filters:
        if PILLOW_WARNING_FILTER not in warnings.filters:
            warnings.filterwarnings("ignore", module=r"PIL\.")


@cache
def _register_heif() -> None:
    """Teach Pillow to read HEIF, when the first such file comes: the import takes as long as the start of a process."""
    pillow_heif = importlib.import_module("pillow_heif")
    pillow_heif.register_heif_opener()


def _check_size(image: Image.Image) -> None:
    """Refuse decompression bombs before anything is decoded.

    Pillow itself only warns at this size, and any other code of the process can switch its check off.
    """
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadableImageError(f"{width} x {height} pixels; at most {MAX_PIXELS:,} are read")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in MODES_OF_16_BITS:
        return _scale_to_8_bits(image)
    if image.mode == "F":
        raise UnreadableImageError("floating-point pixels have no defined white; save the image with 8 or 16 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    """Scale grey of 16 bits to 8; Pillow's own conversion would clip it to white."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise UnreadableImageError(f"grey values from {values.min()} to {values.max()}; at most 16 bits are read")

    # 65535 / 255 = 257; adding 128 rounds to the nearest value.
    return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
