"""Make the pictures of docs/from_a_phone.md: `python -m benchmarks.phone_page docs/pictures`.

No photographs come with the project, so they are made: a sticker of the demo's drawings on a table, in the light of a
room, as a telephone stores it (HEIC, sideways with an EXIF orientation, a copy from a messenger, a video beside). The
commands of the page run in a copy of the repository, and Chromium takes the pictures of what they show.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import typer
from PIL import Image, ImageDraw, ImageFilter
from playwright.sync_api import sync_playwright

from features.datasets.twemoji import CLASSES, PACKAGE, PICTURES
from features.encoding.images import ORIENTATION, Reading, UnreadableImageError, read_image

ROOT = Path(__file__).resolve().parents[1]
SEEN = {"fruit": "piece of fruit", "bird": "bird", "vehicle": "vehicle"}  # folder -> class of the demo
UNSEEN = {"clock": "clock"}
PER_CLASS = 18
NEW = 3  # photographs of each class to predict, those of unseen ones included
SIZE = (480, 360)
PORT = 8765
# The page shows how it goes, not how good it is.
GRID = ("seeds=[1]", "methods=[zero_shot, clip_adapter]", "synthetic_methods=[]", "generators=[]")
QUICK = [f"--set=grid.{axis}" for axis in GRID]


def photograph(drawing: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a photograph of a sticker on a table."""
    width, height = SIZE
    grain = rng.normal(0, 9, (height // 3, width // 3, 1)) + rng.uniform(90, 200, 3)
    table = Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8)).resize(SIZE, Image.Resampling.BICUBIC)

    side = int(rng.uniform(0.5, 0.75) * height)
    turned = (
        drawing.convert("RGBA")
        .resize((side, side), Image.Resampling.LANCZOS)
        .rotate(float(rng.uniform(-20, 20)), Image.Resampling.BICUBIC, expand=True)
    )
    room = [max(1, space - taken) for space, taken in zip(SIZE, turned.size, strict=True)]
    place = (int(rng.uniform(0.15, 0.85) * room[0]), int(rng.uniform(0.15, 0.85) * room[1]))
    shadow = Image.new("RGBA", turned.size, (0, 0, 0, 0))
    shadow.putalpha(turned.getchannel("A").point(lambda alpha: alpha // 2))
    table.paste(shadow, (place[0] + 6, place[1] + 8), shadow.filter(ImageFilter.GaussianBlur(5)))
    table.paste(turned, place, turned)

    across = np.linspace(float(rng.uniform(0.6, 1)), float(rng.uniform(0.7, 1.1)), width)[None, :, None]
    lit = np.asarray(table, np.float32) * across + rng.normal(0, 4, (height, width, 3))
    return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))


def drawings(name: str) -> list[Path]:
    """Return the drawings of a class of the demo."""
    package = importlib.util.find_spec(PACKAGE)
    assert package is not None  # noqa: S101 (the extra `demo` has it)
    folder = Path(next(iter(package.submodule_search_locations or ()))) / PICTURES
    groups = {group["name"]: group["pictures"].split() for group in json.loads(CLASSES.read_text("utf-8"))["classes"]}
    return [folder / f"{picture}.png" for picture in groups[name]]


def make_folder(folder: Path) -> None:
    """Write what comes off the telephone: `photos` with a folder a class, and `new` with photographs to classify."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    rng = np.random.default_rng(17)
    number = 1000
    for folder_name, name in {**SEEN, **UNSEEN}.items():
        pictures = drawings(name)
        for i, drawing in enumerate(pictures[: PER_CLASS + NEW]):
            number += 1
            image = photograph(Image.open(drawing), rng)
            new = i >= PER_CLASS
            if not new and folder_name in UNSEEN:
                continue
            place = folder / ("new" if new else f"photos/{folder_name}")
            place.mkdir(parents=True, exist_ok=True)
            if i % 3 == 0:
                image.save(place / f"IMG_{number}.HEIC", quality=80)
            elif i % 3 == 1:  # held upright, stored sideways
                exif = Image.Exif()
                exif[ORIENTATION] = 6
                image.transpose(Image.Transpose.ROTATE_90).save(place / f"IMG_{number}.jpg", quality=88, exif=exif)
            else:
                image.save(place / f"IMG_{number}.jpg", quality=88)
    _add_what_lies_beside(folder / "photos")


def _add_what_lies_beside(photos: Path) -> None:
    """Add a copy from a messenger, one in a wrong folder, a video, and what systems leave."""
    first = sorted((photos / "bird").glob("IMG_*.jpg"))[0]
    upright = read_image(first, Reading(upright=True))
    upright.resize((240, 180)).save(photos / "bird/IMG-20260801-WA0003.jpg", quality=60)
    shutil.copy(first, photos / "fruit" / first.name)
    (photos / "vehicle/IMG_1041.MOV").write_bytes(b"\0\0\0\x14ftypqt  ")
    (photos / "vehicle/.DS_Store").touch()
    broken = sorted((photos / "vehicle").glob("*.jpg"))[0].read_bytes()
    (photos / "vehicle/IMG_2042.jpg").write_bytes(broken[: len(broken) // 2])


def contact_sheet(folder: Path, out: Path) -> None:
    """Draw the first photographs of each class, upright, below the names of their folders."""
    columns, side, margin, height = 6, 150, 28, 116
    names = sorted(path.name for path in (folder / "photos").iterdir())
    sheet = Image.new("RGB", (columns * side, len(names) * (height + margin)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, name in enumerate(names):
        top = row * (height + margin)
        draw.text((6, top + 8), f"photos/{name}/", fill="black", font_size=15)
        files = [file for file in sorted((folder / "photos" / name).iterdir()) if file.suffix in (".HEIC", ".jpg")]
        for column, file in enumerate(files[:columns]):
            try:
                image = read_image(file, Reading(upright=True))
            except UnreadableImageError:
                image = Image.new("RGB", SIZE, "lightgrey")
            image.thumbnail((side - 6, side - 6))
            sheet.paste(image, (column * side + 3, top + margin))
    _save(sheet, out)


def _save(image: Image.Image, out: Path) -> None:
    image.convert("RGB").save(out, "WEBP", quality=70, method=6)
    print(f"{out}: {out.stat().st_size:,} bytes")


def shipyard(repo: Path, *arguments: str, check: bool = True) -> str:
    """Run a command in the copy of the repository and return what it prints."""
    command = [sys.executable, "-m", "pipeline", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(repo), "SHIPYARD_VERBOSITY": "quiet"}
    done = subprocess.run(command, cwd=repo, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    print(f"$ shipyard {' '.join(arguments)}\n{done.stdout}{done.stderr}", flush=True)
    if check and done.returncode not in (0, 3):
        raise SystemExit(done.returncode)
    return done.stdout


@contextmanager
def browser() -> Iterator[Any]:
    """Open Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=program, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield opened
        opened.close()


def shot(page: Any, out: Path, height: int) -> None:
    """Save the top of a page."""
    width = page.viewport_size["width"]
    data = page.screenshot(clip={"x": 0, "y": 0, "width": width, "height": height}, full_page=True)
    _save(Image.open(io.BytesIO(data)), out)


def take_pictures(repo: Path, out: Path) -> None:
    """Take the pictures of the predictions, the report and the local page."""
    report = next((repo / "artifacts").glob("*/report.html"))
    command = [sys.executable, "-m", "pipeline", "serve", "stickers", "--port", str(PORT)]
    server = subprocess.Popen(command, cwd=repo, env={**os.environ, "PYTHONPATH": str(repo)})  # noqa: S603
    try:
        with browser() as opened:
            page = opened.new_page(viewport={"width": 960, "height": 700}, color_scheme="light")
            page.goto((repo / "found.html").as_uri())
            shot(page, out / "predictions.webp", 760)
            page.goto(report.as_uri())
            page.locator("html[data-drawn]").wait_for(state="attached", timeout=120_000)
            shot(page, out / "report.webp", 900)

            while server.poll() is None:
                try:
                    page.goto(f"http://127.0.0.1:{PORT}/")
                    break
                except Exception:  # noqa: BLE001 (it is not listening yet)
                    time.sleep(0.5)
            page.set_input_files("#files", sorted(map(str, (repo / "new").glob("*.jpg")))[1:3])
            page.locator(".nearest img").nth(7).wait_for(timeout=120_000)  # four of each photograph
            page.wait_for_timeout(1000)  # for the pictures themselves
            shot(page, out / "serve.webp", 760)
    finally:
        server.terminate()
        server.wait()


def main(out: Path) -> None:
    """Make all pictures of the page."""
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as name:
        repo = Path(name) / "shipyard"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(repo)], check=True)  # noqa: S603, S607
        make_folder(repo)
        contact_sheet(repo, out / "phone_folder.webp")
        shipyard(repo, "task", "check", "photos")
        (repo / "photos/vehicle/IMG_2042.jpg").unlink()
        (repo / "photos/fruit" / sorted((repo / "photos/bird").glob("IMG_*.jpg"))[0].name).unlink()
        (repo / "names.txt").write_text("clock\n", encoding="utf-8")
        named = ("--unseen", "names.txt", "--template", "a sticker of a {}.")
        shipyard(repo, "task", "new", "stickers", "--images", "photos", *named)
        shipyard(repo, "run", "stickers", *QUICK)
        shipyard(repo, "predict", "stickers", "new", "--html", "found.html")
        shipyard(repo, "predict", "stickers", "new")
        take_pictures(repo, out)


if __name__ == "__main__":
    typer.run(main)
