"""What Pillow does not offer: all bits of deep images, PNG without texts, JPEG without its end."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

PNG = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"iCCP", b"iTXt", b"tEXt", b"zTXt")  # chunks that Pillow unpacks, and refuses if they are large
DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # Pillow's modes of one channel with more than 8 bits
OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
END_OF_JPEG = b"\xff\xd9"
FILLING = 64  # bytes; the last block of a picture takes fewer


def deep_values(image: ImageFile.ImageFile) -> NDArray[Any] | None:
    """Return (H, W) grey or (H, W, 3 or 4) colour values of an opened image with more than 8 bits a channel, else None.

    Pillow keeps only the high bytes of 16-bit colour. Its decoder, asked for the other byte order, gives the low bytes.
    """
    if image.mode in DEEP_MODES:
        return np.asarray(image)

    raw = {_raw_mode(tile) for tile in image.tile}
    if len(raw) != 1:
        return None
    mode = raw.pop()
    if mode == "LA;16B":  # four bytes of a pixel: both of the grey and both of the transparency
        both = np.asarray(_decoded(image, "RGBA")).astype(np.uint16)
        grey, alpha = both[..., 0] << 8 | both[..., 1], both[..., 2] << 8 | both[..., 3]
        return np.stack([grey, grey, grey, alpha], axis=-1)
    if mode[:-1] not in ("RGB;16", "RGBA;16"):
        return None
    high = np.asarray(_decoded(image, mode)).astype(np.uint16)
    low = np.asarray(_decoded(image, mode[:-1] + OTHER_ORDER[mode[-1]])).astype(np.uint16)
    values: NDArray[Any] = high << 8 | low
    return values


def _raw_mode(tile: Any) -> str:
    arguments = tile[3]
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _decoded(image: ImageFile.ImageFile, mode: str) -> Image.Image:
    """Return the image of the same bytes, decoded with another raw mode; `image` itself is left as it is."""
    data = cast(io.BytesIO, image.fp).getvalue()
    copy = Image.open(io.BytesIO(data), formats=[str(image.format)])
    copy.tile = [
        ImageFile._Tile(*tile[:3], (mode, *tile[3][1:]) if isinstance(tile[3], tuple) else mode) for tile in copy.tile
    ]
    copy.load()
    return copy


def without_texts(data: bytes) -> bytes:
    """Return a PNG without its texts and its colour profile, which no reader of pixels needs."""
    return PNG + b"".join(chunk for kind, chunk in _chunks(data) if kind not in TEXTS)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the bytes of each chunk of a PNG; the last may be incomplete."""
    position = len(PNG)
    while position < len(data):
        length = struct.unpack(">I", data[position : position + 4].ljust(4, b"\0"))[0]
        end = position + 12 + length
        yield data[position + 4 : position + 8], data[position:end]
        position = end


def with_end(data: bytes, filling: bytes) -> bytes:
    """Return a JPEG that lacks its end with some bytes and the mark of the end."""
    return data.removesuffix(END_OF_JPEG[:1]) + FILLING * filling + END_OF_JPEG
