"""Image files of every kind become RGB, or one error with the reason."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pictures import picture
from PIL import Image

from features.encoding import images
from features.encoding.images import UnreadableImageError, decode, read_image

RGB = picture(0)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_rgb_is_untouched() -> None:
    assert np.array_equal(decode(saved(RGB)), RGB)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000"])
def test_every_format_is_read_as_rgb(kind: str) -> None:
    image = decode(saved(RGB, kind))
    assert (image.mode, image.size) == ("RGB", RGB.size)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LA", "RGBA"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    kind = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    image = decode(saved(RGB.convert(mode), kind))
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image, int) - np.asarray(RGB.convert(mode).convert("RGB"), int)).mean() < 8


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_put_on_white(mode: str) -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 0, 255))
    image = decode(saved(image.convert(mode)))
    assert image.getpixel((3, 3)) == (255, 255, 255)
    assert image.getpixel((0, 0)) == (0, 0, 0)


def test_transparent_colour_of_a_picture_without_alpha() -> None:
    data = saved(Image.new("RGB", (2, 2), (9, 9, 9)), transparency=(9, 9, 9))
    assert decode(data).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_to_8_bits(kind: str) -> None:
    deep = np.array([[0, 257, 257 * 128, 65535]], np.uint16)
    assert np.asarray(decode(saved(Image.fromarray(deep), kind)))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_first_frame_of_an_animation() -> None:
    data = saved(RGB, "GIF", save_all=True, append_images=[Image.new("RGB", RGB.size)])
    assert np.asarray(decode(data)).any()


def test_exif_rotation_is_not_applied_as_in_open_clip() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(saved(RGB, "JPEG", exif=exif)).size == RGB.size


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


BROKEN = {
    "empty": (b"", "it is empty"),
    "a web page": (b"<!DOCTYPE html><html>no such picture</html>", "it begins with b'<!DOCTYPE ht"),
    "a truncated JPEG": (saved(RGB, "JPEG")[:-200], "truncated"),
    "a truncated PNG": (saved(RGB)[:-60], "."),
    "a truncated WebP": (saved(RGB, "WEBP")[:-60], "."),
    "a header alone": (png_header(8, 8), "."),
    "30,000 x 30,000": (png_header(30_000, 30_000), "."),
    "more than Pillow's limit": (png_header(10_000, 10_000), "100000000 pixels|10000 x 10000 pixels"),
    "floating point": (saved(Image.new("F", (2, 2)), "TIFF"), "floating-point"),
    "32 bits": (saved(Image.fromarray(np.array([[70_000]], np.int32)), "TIFF"), "at most 16 bits"),
    "PostScript, which Pillow would start a program for": (saved(RGB, "EPS"), "not an image of a known format"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_an_unreadable_image_is_an_error_with_its_reason(kind: str) -> None:
    data, reason = BROKEN[kind]
    with pytest.raises(UnreadableImageError, match=reason):
        decode(data)


def test_decompression_bombs_are_errors_even_without_pillows_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(UnreadableImageError, match=r"30000 x 30000.*89,478,485"):
        decode(png_header(30_000, 30_000))


ODD = saved(RGB, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x02")  # truncated metadata


def test_only_pillows_warnings_are_ignored_in_any_number_of_threads() -> None:
    with pytest.warns(UserWarning, match="Corrupt EXIF"):
        Image.open(io.BytesIO(ODD))
    with ThreadPoolExecutor(8) as pool:
        decoded = [*pool.map(decode, [ODD] * 300)]
    assert {image.size for image in decoded} == {RGB.size}
    with pytest.raises(UserWarning, match="ours"):
        warnings.warn("ours", UserWarning, stacklevel=1)


def test_a_file_is_read_by_its_content_not_its_ending(tmp_path: Path) -> None:
    (tmp_path / "misnamed.jpg").write_bytes(saved(RGB))
    assert np.array_equal(read_image(tmp_path / "misnamed.jpg"), RGB)
    with pytest.raises(UnreadableImageError, match="No such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(UnreadableImageError, match="directory"):
        read_image(tmp_path)


def test_pillow_reads_all_formats() -> None:
    Image.init()
    assert set(images.FORMATS) <= set(Image.OPEN)
