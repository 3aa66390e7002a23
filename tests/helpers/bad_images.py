"""Files that a folder of pictures may contain: readable ones, and unreadable ones with the reason in the error."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from pictures import picture
from PIL import Image, PngImagePlugin

RGB = picture(0)


def saved(image: Image.Image = RGB, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def cut(kind: str, share: float = 0.6) -> bytes:
    data = saved(kind=kind)
    return data[: int(len(data) * share)]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes = b"", *more: bytes) -> bytes:
    """Return a PNG that claims a size and has `data` as its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + body + chunk(b"IEND", b"")


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def text(size: int) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * size, zip=True)
    return info


def deep() -> Image.Image:
    return Image.fromarray(np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16))


def damaged(data: bytes, share: float) -> bytes:
    """Return the data with all bits of one byte flipped."""
    place = int(len(data) * share)
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


FRAMES = [picture(1).resize(RGB.size), picture(2).resize(RGB.size)]
UNKNOWN = "not an image of a known format"

# File name -> bytes, and a pattern of the reason.
UNREADABLE: dict[str, tuple[bytes, str]] = {
    "empty.jpg": (b"", "it is empty"),
    "one byte.jpg": (b"\xff", UNKNOWN),
    "zeros.jpg": (bytes(4096), UNKNOWN),
    "noise.jpg": (np.random.default_rng(0).bytes(4096), UNKNOWN),
    "words.jpg": (b"this image is no longer available", UNKNOWN),
    "page.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", "it begins with b'<!DOCTYPE ht"),
    "answer.jpg": (b'{"error": "not found"}', UNKNOWN),
    "drawing.png": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', UNKNOWN),
    "paper.png": (b"%PDF-1.7\n1 0 obj\n", UNKNOWN),
    "archive.png": (b"PK\x03\x04" + bytes(60), UNKNOWN),
    "packed.png": (gzip.compress(saved()), UNKNOWN),
    "program that draws.png": (saved(kind="EPS"), UNKNOWN),
    "of a phone.jpg": (b"\x00\x00\x00\x18ftypheic" + bytes(64), UNKNOWN),
    "icon.png": (saved(kind="ICO"), UNKNOWN),
    "targa.png": (saved(kind="TGA"), UNKNOWN),
    "pointer to git lfs.jpg": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", UNKNOWN),
    "cut.jpg": (cut("JPEG"), "truncated"),
    "start alone.jpg": (b"\xff\xd8\xff\xe0", "."),
    "no scan.jpg": (saved(kind="JPEG")[:300], "."),
    "cut.png": (cut("PNG"), "."),
    "header alone.png": (png(8, 8), "."),
    "wrong checksum.png": (damaged(saved(), 0.5), "."),
    "no width.png": (png(0, 8), "."),
    "30,000 x 30,000.png": (png(30_000, 30_000), "pixels"),
    "bomb.png": (png(20_000, 20_000, bytes(10**7)), "pixels"),
    "thread.png": (png(300_000, 1, bytes(900_001)), "too elongated"),
    "cut.webp": (cut("WEBP"), "."),
    "header alone.webp": (saved(kind="WEBP")[:20], "."),
    "cut.gif": (cut("GIF"), "."),
    "header alone.gif": (b"GIF89a", "."),
    "cut.bmp": (cut("BMP"), "truncated"),
    "huge.bmp": (saved(kind="BMP")[:18] + struct.pack("<ii", 10**6, 10**6) + saved(kind="BMP")[26:], "pixels"),
    "cut.tif": (cut("TIFF"), "."),
    "loop.tif": (b"II*\x00\x08\x00\x00\x00\x00\x00\x08\x00\x00\x00", "."),
    "floats.tif": (saved(Image.new("F", (40, 40)), "TIFF"), "floating-point"),
    "32 bits.tif": (saved(Image.fromarray(np.full((40, 40), 70_000, np.int32)), "TIFF"), "at most 16 bits"),
    "cut.ppm": (cut("PPM"), "truncated"),
    "huge.ppm": (b"P6 100000 100000 255\n", "pixels"),
    "no size.ppm": (b"P6 x y 255\n", "."),
    "cut.jp2": (cut("JPEG2000", 0.1), "."),
}

READABLE: dict[str, bytes] = {
    "wrong ending.jpg": saved(),
    "no ending": saved(kind="JPEG"),
    "CMYK.jpg": saved(RGB.convert("CMYK"), "JPEG"),
    "turned by EXIF.jpg": saved(kind="JPEG", exif=turned()),
    "progressive.jpg": saved(kind="JPEG", progressive=True),
    "grey.jpg": saved(RGB.convert("L"), "JPEG"),
    "more behind the end.jpg": saved(kind="JPEG") + b"and more",
    "a bomb of words that nobody reads.png": saved(pnginfo=text(2 * 10**6)),
    "16 bits.png": saved(deep()),
    "16 bits.tif": saved(deep(), "TIFF"),
    "black and white.png": saved(RGB.convert("1")),
    "palette.png": saved(RGB.convert("P")),
    "palette with alpha.png": saved(RGB.convert("P"), transparency=3),
    "grey with alpha.png": saved(RGB.convert("LA")),
    "alpha.png": saved(RGB.convert("RGBA")),
    "animated.png": saved(save_all=True, append_images=FRAMES),
    "animated.gif": saved(kind="GIF", save_all=True, append_images=FRAMES),
    "animated.webp": saved(kind="WEBP", save_all=True, append_images=FRAMES),
    "pages.tif": saved(kind="TIFF", save_all=True, append_images=FRAMES),
    "one pixel.png": saved(Image.new("RGB", (1, 1), "red")),
    "strip.png": saved(Image.new("RGB", (1, 500), "red")),
    "line\nbreak.png": saved(),
    "tab\tand \x07.png": saved(),
    "ünï😀.png": saved(),
    f"{'long' * 62}.png": saved(),
}


def write(folder: Path, files: dict[str, bytes]) -> list[str]:
    """Write the files into a folder; return their names in the order of the index."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return sorted(files)
