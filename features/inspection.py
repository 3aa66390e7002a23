"""Look at the pixels of a user's own images once, when they are indexed: how deep they are, and which look alike."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.encoding.images import MAX_PIXELS, UnreadableImageError, ValueRange, inspect, levels_for, value_range
from features.errors import InputError, are, counted, shown
from features.formats.parquet import read_sealed, sealed_writer
from features.runtime.cores import cores
from features.runtime.progress import Progress

SIZE = 32  # pixels of a thumbnail's side
LISTED = 3  # examples in a line
CHUNK = 32  # images that a thread looks at in a row
BATCH = 4096  # rows that are made at a time, because a row takes several times the memory of its thumbnail
SCHEMA = pa.schema(
    [
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("low", pa.float64()),  # null: 8 bits
        pa.field("high", pa.float64()),
        pa.field("floating", pa.bool_()),
        pa.field("thumbnail", pa.binary()),  # null: unreadable, or not decoded
        pa.field("problem", pa.string()),
    ]
)


@dataclass(frozen=True, eq=False)
class Inspected:
    """What was seen of an image: its value range if it has more than 8 bits a channel, its thumbnail or its problem.

    `thumbnail` is (32, 32) uint8, grey and upright. An image that was not decoded, for lack of time, has neither.
    """

    values: ValueRange | None
    thumbnail: NDArray[np.uint8] | None
    problem: str | None = None


def inspect_images(
    folder: Path,
    paths: Sequence[str],
    sha256: Sequence[str],
    cache: Path,
    name: str,
    *,
    max_pixels: int = MAX_PIXELS,
    seconds: float = math.inf,
) -> list[Inspected]:
    """Look at N images.

    Args:
        folder: The folder that `paths` are relative to.
        paths: N POSIX paths.
        sha256: N hex digests of the files' bytes.
        cache: A Parquet file that keeps the results for the next call, by digest; it does not affect the result.
        name: The data set, for the progress line.
        max_pixels: The size up to which an image is read.
        seconds: The time after which images are opened, but not decoded.
    """
    deadline = time.monotonic() + seconds
    known = _load(cache)
    todo = {digest: path for digest, path in zip(sha256, paths, strict=True) if digest not in known}
    chunks = [list(todo.items())[start : start + CHUNK] for start in range(0, len(todo), CHUNK)]

    with ThreadPoolExecutor(cores()) as pool, Progress(f"inspect {name}", len(todo)) as progress:
        seen = pool.map(lambda part: _inspect_all(folder, part, max_pixels, deadline), chunks)
        for chunk, results in zip(chunks, seen, strict=True):
            known |= {digest: result for (digest, _), result in zip(chunk, results, strict=True)}
            progress.advance(len(chunk))

    if todo:
        _save({digest: known[digest] for digest in dict.fromkeys(sha256)}, cache)
    return [known[digest] for digest in sha256]


def pixel_lines(paths: Sequence[str], inspected: Sequence[Inspected]) -> Iterator[str]:
    """Yield lines on images that were not decoded, on those that cannot be read, and on those of more than 8 bits."""
    left = sum(one.thumbnail is None and one.problem is None for one in inspected)
    if left:
        yield (
            f"{left} of {counted(len(inspected), 'image')} {are(left)} opened, but not decoded, to save time: "
            "`shipyard run` finds those whose pixels are damaged, and copies that are re-encoded"
        )
    broken = [f"{path}: {one.problem}" for path, one in zip(paths, inspected, strict=True) if one.problem]
    yield from problem_lines(broken, [one.values for one in inspected if one.values])


def problem_lines(broken: Sequence[str], deep: Sequence[ValueRange]) -> Iterator[str]:
    """Yield the lines of `pixel_lines`, from the images that cannot be read and the ranges of the deep ones."""
    if broken:
        listed = "; ".join(map(shown, broken[:LISTED]))
        yield f"{counted(len(broken), 'image')} cannot be read ({listed}{'; ...' * (len(broken) > LISTED)})"
    if levels := levels_for(deep):
        count = len(deep)
        yield (
            f"{counted(count, 'image')} {are(count, 'has', 'have')} more than 8 bits: {levels[0]:g} is read as black, "
            f"{levels[1]:g} as white"
        )
        shares = sum(one.floating and one.high <= 1 for one in deep)
        if shares and not all(one.floating for one in deep):
            yield (
                f"{counted(shares, 'image')} of these {are(shares, 'has', 'have')} floating point up to 1 and so "
                f"{are(shares, 'is', 'are')} read as black beside the others: store all of them on one scale"
            )


def _inspect_all(folder: Path, files: Sequence[tuple[str, str]], max_pixels: int, deadline: float) -> list[Inspected]:
    return [_inspect(folder / path, max_pixels, decode=time.monotonic() < deadline) for _, path in files]


def _inspect(file: Path, max_pixels: int, *, decode: bool) -> Inspected:
    try:
        data = file.read_bytes()
        return Inspected(*inspect(data, SIZE, max_pixels)) if decode else Inspected(value_range(data, max_pixels), None)
    except (OSError, UnreadableImageError) as error:
        return Inspected(None, None, str(error))


def _load(cache: Path) -> dict[str, Inspected]:
    """Return the images in the cache that were decoded; {} if it is missing or damaged."""
    try:
        batches = read_sealed(cache, "").cast(SCHEMA).to_batches(max_chunksize=BATCH)
    except (InputError, pa.ArrowException, ValueError):
        return {}
    return {
        row["sha256"]: Inspected(
            None if row["low"] is None else ValueRange(row["low"], row["high"], row["floating"]),
            np.frombuffer(row["thumbnail"], np.uint8).reshape(SIZE, SIZE),
        )
        for batch in batches
        for row in batch.to_pylist()
        if row["thumbnail"] is not None  # one with a problem is read again: the limit may be another
    }


def _save(inspected: dict[str, Inspected], cache: Path) -> None:
    items = iter(inspected.items())
    with sealed_writer(cache, SCHEMA, compression="zstd") as writer:
        while rows := [_row(digest, result) for digest, result in islice(items, BATCH)]:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=SCHEMA))


def _row(digest: str, result: Inspected) -> dict[str, Any]:
    return {
        "sha256": digest,
        **(result.values._asdict() if result.values else {}),
        "thumbnail": None if result.thumbnail is None else result.thumbnail.tobytes(),
        "problem": result.problem,
    }
