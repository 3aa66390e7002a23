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
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from features.encoding import images
from features.encoding.images import Reading, UnreadableImageError, decode, inspect, levels_for, read_image

RGB = picture(0)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_rgb_is_untouched() -> None:
    assert np.array_equal(decode(saved(RGB)), RGB)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF"])
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
    "30,000 x 30,000": (png_header(30_000, 30_000), "30000 x 30000 pixels"),
    "floating point": (saved(Image.new("F", (2, 2)), "TIFF"), "floating-point"),
    "32 bits": (saved(Image.fromarray(np.array([[70_000]], np.int32)), "TIFF"), "at most 16 bits"),
    "PostScript, which Pillow would start a program for": (saved(RGB, "EPS"), "not an image of a known format"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_an_unreadable_image_is_an_error_with_its_reason(kind: str) -> None:
    data, reason = BROKEN[kind]
    with pytest.raises(UnreadableImageError, match=reason):
        decode(data)


def test_a_size_that_pillow_refuses_reaches_the_decoder() -> None:
    with pytest.raises(UnreadableImageError) as error:
        decode(png_header(12_000, 9_000))
    assert "pixels" not in str(error.value)


def test_a_setting_raises_the_limit_of_pixels() -> None:
    large = Reading(max_pixels=30_000 * 30_000)
    with pytest.raises(UnreadableImageError) as error:
        decode(png_header(30_000, 30_000), large)
    assert "pixels" not in str(error.value)
    data = saved(RGB)
    assert decode(data, Reading(max_pixels=RGB.width * RGB.height)).size == RGB.size
    with pytest.raises(UnreadableImageError, match="max_pixels"):
        decode(data, Reading(max_pixels=RGB.width * RGB.height - 1))
    assert Reading.from_provenance(large.provenance()) == large


def test_a_huge_jpeg_is_decoded_at_reduced_size(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = decode(saved(RGB.resize((640, 480)), "JPEG", quality=95))
    monkeypatch.setattr(images, "MAX_PIXELS", 320 * 240)
    reduced = decode(saved(RGB.resize((640, 480)), "JPEG", quality=95))
    assert reduced.size == (320, 240)
    assert np.abs(np.asarray(whole.resize((320, 240)), int) - np.asarray(reduced, int)).mean() < 3


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_is_read_and_one_without_pixels_is_not(progressive: bool) -> None:
    data = saved(RGB.resize((300, 200)), "JPEG", progressive=progressive)
    assert [np.array_equal(decode(data[:-cut]), decode(data)) for cut in (1, 2)] == [True, True]
    with pytest.raises(UnreadableImageError, match="truncated"):
        decode(data[:-40])


def test_large_texts_and_profiles_of_a_png_are_no_reason_to_refuse_it() -> None:
    info = PngInfo()
    info.add_text("notes", "x" * 3_000_000, zip=True)
    data = saved(RGB, pnginfo=info, icc_profile=bytes(2_000_000))
    assert np.array_equal(decode(data), RGB)


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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("number", range(1, 9))
def test_own_images_are_upright_in_every_format_and_orientation(kind: str, number: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = number
    grey = RGB.convert("L").convert("RGB").resize((64, 48))
    seen = decode(saved(grey, kind, exif=exif), Reading(upright=True))
    expected = ImageOps.exif_transpose(_with_orientation(grey, number))
    assert seen.size == expected.size
    assert np.abs(np.asarray(seen, int) - np.asarray(expected, int)).mean() < 8


def _with_orientation(image: Image.Image, number: int) -> Image.Image:
    tagged = image.copy()
    tagged.getexif()[0x0112] = number
    return tagged


def test_odd_metadata_leave_an_image_as_it_is() -> None:
    assert decode(ODD, Reading(upright=True)).size == RGB.size


def png16(values: np.ndarray, colour_type: int) -> bytes:
    """Return a PNG of 16 bits a channel, which Pillow cannot write in colour: (H, W, C) values."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_12_bits_in_16_are_scaled_by_the_levels_in_grey_and_colour(colour_type: int, channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (9, 7, channels))
    values[0, 0] = 4095
    if channels in (2, 4):
        values[..., -1] = 4095  # opaque
    data = png16(values, colour_type)
    found, _ = inspect(data, 4)
    levels = levels_for([found] if found else [])
    assert levels == (0, 4095)
    colour = values[..., :1] if channels < 3 else values[..., :3]
    assert np.abs(np.asarray(decode(data, Reading(levels=levels)), int) - colour * 255 / 4095).max() <= 0.5


@pytest.mark.parametrize(
    ("ranges", "levels"),
    [
        ([], None),
        ([(3, 200, False)], (0, 255)),
        ([(0, 900, False), (9, 4000, False)], (0, 4095)),
        ([(0, 65535, False)], (0, 65535)),
        ([(0, 70000, False)], (0, 131071)),
        ([(0.1, 0.7, True)], (0, 1)),
        ([(0.1, 1.25, True)], (0, 1.25)),
        ([(0.5, 254.0, True)], (0, 255)),
        ([(-1024, 3000, False)], (-1024, 3000)),
    ],
)
def test_levels_come_from_all_images_of_a_data_set(
    ranges: list[tuple[float, float, bool]], levels: tuple[float, float] | None
) -> None:
    assert levels_for([images.ValueRange(*values) for values in ranges]) == levels


def test_floating_point_is_read_by_the_levels_of_its_data_set() -> None:
    values = np.linspace(-1, 1, 256, dtype=np.float32).reshape(16, 16)
    data = saved(Image.fromarray(values), "TIFF")
    assert np.asarray(decode(data, Reading(levels=(-1, 1))))[..., 0].ravel().tolist() == [*range(256)]
    values[0, 0] = np.nan
    with pytest.raises(UnreadableImageError, match="1 "):
        decode(saved(Image.fromarray(values), "TIFF"), Reading(levels=(-1, 1)))


def test_a_thumbnail_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = RGB.resize((320, 240))
    sideways = saved(picture.transpose(images.TURNS[8]), "JPEG", exif=exif, quality=95)
    difference = inspect(sideways, 16)[1].astype(int) - inspect(saved(picture), 16)[1]
    assert np.abs(difference).mean() < 3


def test_pillow_reads_all_formats() -> None:
    Image.init()
    assert set(images.FORMATS) <= set(Image.OPEN)
