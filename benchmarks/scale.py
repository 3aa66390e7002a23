"""`python -m benchmarks.scale`: the arithmetic of docs/scale.md, so that no number there is typed by hand.

What is assumed is a constant below. Exchange one for a number of your own: `python -m benchmarks.scale --rate 5000`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from features.formats.files import atomic_file
from features.image_store.writer import CROPS_IN_SHARD

PAGE = Path(__file__).resolve().parent.parent / "docs" / "scale.md"
BEGIN, END = "<!-- python -m benchmarks.scale writes this table -->\n", "<!-- end of the table -->\n"
IMAGES = (10**7, 10**9, 5 * 10**9)
RATE = 2500.0  # assumed: ViT-B/16 crops a second on one data-centre GPU in bfloat16
DECODE = 120.0  # assumed: JPEGs of 500 x 400 that one core reads, hashes, decodes and crops in a second
PIXELS = 110_000  # assumed: bytes of one JPEG
GPUS = 64
GPU_HOUR = 3.0  # assumed: dollars
GET, PUT = 0.4e-6, 5e-6  # assumed: dollars of one read and one write of an object store
SHELF = 0.023e-9  # assumed: dollars a byte and month
D = 512  # of ViT-B/16
INDEX_ROW = 250  # assumed: bytes of the index in memory, an image: path, sha256, numbers
HEAD = ("", "10 million images", "1 billion", "5 billion")


def lines(rate: float, decode: float, gpus: int, gpu_hour: float) -> Iterator[tuple[str, ...]]:
    """Rows of the table: what is counted, then its value for each number of `IMAGES`, one crop an image."""
    hours = [count / rate / 3600 for count in IMAGES]
    shards = [math.ceil(count / CROPS_IN_SHARD) for count in IMAGES]
    bytes_out = [count * D * 2 for count in IMAGES]

    def row(name: str, values: list[float], unit: str = "", digits: int = 0) -> tuple[str, ...]:
        return (name, *(f"{value:,.{digits}f}{unit}" for value in values))

    yield row("GPU hours", hours)
    yield row(f"hours on {gpus} GPUs", [h / gpus for h in hours], digits=1)
    yield row("cores that decode, a GPU", [rate / decode] * 3)
    yield row("images read, TB", [count * PIXELS / 1e12 for count in IMAGES], digits=1)
    yield row("objects read, one an image", [float(count) for count in IMAGES])
    yield row("read by each GPU, MB/s", [rate * PIXELS / 1e6] * 3)
    yield row("features, GB", [size / 1e9 for size in bytes_out], digits=1)
    yield row("shards, and objects written", [float(count) for count in shards])
    yield row("MB a shard", [CROPS_IN_SHARD * D * 2 / 1e6] * 3, digits=1)
    yield row("index in the driver's memory, GB", [count * INDEX_ROW / 1e9 for count in IMAGES], digits=1)
    yield row("GPUs, $", [h * gpu_hour for h in hours])
    yield row("reads, one an image, $", [count * GET for count in IMAGES])
    yield row("writes, one a shard, $", [count * PUT for count in shards], digits=2)
    yield row("features kept, $ a month", [size * SHELF for size in bytes_out], digits=2)


def main(
    rate: Annotated[float, typer.Option(help="Crops a second on one GPU.")] = RATE,
    decode: Annotated[float, typer.Option(help="Images a second that one core decodes.")] = DECODE,
    gpus: Annotated[int, typer.Option(help="GPUs.")] = GPUS,
    gpu_hour: Annotated[float, typer.Option(help="Dollars a GPU hour.")] = GPU_HOUR,
    write: Annotated[bool, typer.Option(help="Put the table into docs/scale.md.")] = False,
) -> None:
    """Print the table; with --write put it into the page."""
    rows = [HEAD, ("---", "--:", "--:", "--:"), *lines(rate, decode, gpus, gpu_hour)]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    print(table, end="")
    if write:
        text = PAGE.read_text(encoding="utf-8")
        before, after = text.partition(BEGIN)[0], text.partition(END)[2]
        with atomic_file(PAGE) as part:
            part.write_text(f"{before}{BEGIN}{table}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
