"""Small copies of images, for pages that need no other file."""

from __future__ import annotations

import base64
import io

from features.encoding.images import Reading, decode

SIDE = 128  # longer side in pixels


def thumbnail(data: bytes, reading: Reading) -> str:
    """Return a small copy of an image, as the encoder saw it, as a JPEG in base64."""
    image = decode(data, reading)
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode()
