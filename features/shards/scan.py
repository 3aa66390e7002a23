"""Read each archive once: its images with label, position, size and sha256. The result is kept, archive by archive."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from features.datasets.base import PassedOver
from features.encoding.images import MAX_PIXELS, UnreadableImageError, ValueRange, value_range
from features.errors import InputError
from features.formats.parquet import read_batches, read_footer_text, sealed_writer
from features.formats.seal import is_sealed
from features.runtime.cores import cores
from features.runtime.progress import Progress
from features.shards import tables, tar
from features.shards.archives import Archive, Base, open_binary, resolved

SCANS = Path("artifacts/.scratch/shards")  # what was found in archives, by their identity; may be deleted
REVISION = 1  # of this module's result; raising it discards what is kept
READ = 1 << 16  # rows of a scan that are in memory at a time
BATCH = 1024  # images that are in memory at a time, without their bytes
PASSED_OVER = "passed_over"  # key of the metadata
SCHEMA = pa.schema(
    [
        pa.field("member", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("split", pa.string()),
        pa.field("group", pa.string()),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("low", pa.float64()),  # null: 8 bits a channel
        pa.field("high", pa.float64()),
        pa.field("floating", pa.bool_()),
        pa.field("problem", pa.string()),  # why the bytes are no image
    ]
)


@dataclass(frozen=True)
class Scan:
    """What was found in an archive: a Parquet file with the columns of `SCHEMA`, in the order of the archive."""

    archive: Archive
    file: Path

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield some columns."""
        yield from read_batches(self.file, self.file.stat().st_size, columns, READ)

    def passed_over(self) -> list[PassedOver]:
        """Return what is not read of the archive, with the reasons."""
        rows = json.loads(read_footer_text(self.file, PASSED_OVER))
        return [PassedOver(f"{self.archive.name}/{name}", reason) for name, reason in rows]


def scan_all(
    base: Base, archives: Sequence[Archive], name: str, max_pixels: int = MAX_PIXELS
) -> tuple[list[Scan], list[str]]:
    """Return what is in each archive, and a text for each that cannot be read.

    An archive that has not changed since an earlier call is not read again.
    """
    files = {archive: scan_file(base, archive, max_pixels) for archive in archives}
    todo = [archive for archive, file in files.items() if not is_sealed(file)]
    problems: dict[Archive, str] = {}

    with (
        ThreadPoolExecutor(cores()) as pool,
        Progress(f"read {name}", len(archives), unit="archive", done=len(archives) - len(todo)) as progress,
    ):
        attempts = pool.map(lambda one: _attempt(base, one, files[one], max_pixels), todo)
        for archive, problem in zip(todo, attempts, strict=True):
            if problem:
                problems[archive] = problem
            progress.advance()
    scans = [Scan(archive, file) for archive, file in files.items() if archive not in problems]
    return scans, [f"{archive.name}: {problem}" for archive, problem in problems.items()]


def scan_file(base: Base, archive: Archive, max_pixels: int = MAX_PIXELS) -> Path:
    """Return the file that keeps what was found in an archive, as it is now."""
    text = json.dumps([REVISION, str(resolved(base)), archive.name, archive.size, archive.version, max_pixels])
    return SCANS / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.parquet"


def _attempt(base: Base, archive: Archive, out: Path, max_pixels: int) -> str:
    try:
        scan(base, archive, out, max_pixels)
    except InputError as error:
        return str(error)
    return ""


def scan(base: Base, archive: Archive, out: Path, max_pixels: int = MAX_PIXELS) -> None:
    """Read an archive from its beginning to its end and write what is in it.

    Raises:
        InputError: It cannot be read.
    """
    passed_over: list[PassedOver] = []
    with open_binary(base, archive.name) as file:
        if archive.is_table:
            read = partial(tables.members, size=archive.size, parquet=archive.name.endswith(".parquet"))
            found = read(file, passed_over=passed_over)
        else:
            found = tar.members(file, passed_over)

        with sealed_writer(out, SCHEMA, compression="zstd") as writer:
            for rows in _batched(_row(member, max_pixels) for member in found):
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=SCHEMA))
            writer.add_key_value_metadata({PASSED_OVER: json.dumps(passed_over)})


def _row(member: tar.Member, max_pixels: int) -> dict[str, object]:
    values: ValueRange | None = None
    problem = None
    try:
        values = value_range(member.data, max_pixels)
    except UnreadableImageError as error:
        problem = str(error)
    return {
        "member": member.name,
        "label": member.label,
        "split": member.split,
        "group": member.group,
        "position": member.position,
        "bytes": len(member.data),
        "sha256": hashlib.sha256(member.data).hexdigest(),
        **(values._asdict() if values else {}),
        "problem": problem,
    }


def _batched(rows: Iterable[dict[str, object]]) -> Iterator[list[dict[str, object]]]:
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
