"""Where the bytes of an image come from: a file below a folder, or a place in an archive."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from features.errors import InputError
from features.shards.archives import MAX_IMAGE_BYTES, TABLES, Base, open_binary, read_ranges

if TYPE_CHECKING:
    from features.shards.tables import RowReader


class Place(NamedTuple):
    """The archive of an image, and the position of its first byte in a tar, or of its row in a table."""

    archive: str
    position: int


class ImageRef(NamedTuple):
    """An image of the index: its path, its size in bytes, its sha256, and its place if it is in an archive."""

    path: str
    size: int
    sha256: str
    place: Place | None = None


class ImageSource:
    """Reads the bytes of a data set's images; used by one thread."""

    def __init__(self, base: Base) -> None:
        """Read below a folder or an address."""
        self.base = base
        self._open = ExitStack()
        self._table: tuple[str, RowReader] | None = None  # the one that was read last, because rows come in order

    def read(self, images: Sequence[ImageRef]) -> list[bytes | str]:
        """Return the bytes of N images, or the reason as a text why an image cannot be read.

        The images of one archive are read together.
        """
        found: list[bytes | str] = [b""] * len(images)
        by_archive: dict[str, list[int]] = defaultdict(list)
        for number, image in enumerate(images):
            if image.place is None:
                found[number] = self._file(image.path)
            else:
                by_archive[image.place[0]].append(number)

        for archive, numbers in by_archive.items():
            for number, data in zip(numbers, self._attempt(archive, [images[n] for n in numbers]), strict=True):
                found[number] = data
        return found

    def _file(self, path: str) -> bytes | str:
        try:
            return (Path(self.base) / path).read_bytes()
        except OSError as error:
            return error.strerror or str(error)

    def _attempt(self, archive: str, images: Sequence[ImageRef]) -> Sequence[bytes | str]:
        """Return the bytes of images of one archive; if it cannot be read, the reason for each."""
        places = [(image.place[1], image.size) for image in images if image.place is not None]
        if any(size > MAX_IMAGE_BYTES for _, size in places):
            return [f"the index claims more than {MAX_IMAGE_BYTES:,} bytes for an image"] * len(images)
        try:
            if archive.endswith(TABLES):
                return self._rows(archive).read([row for row, _ in places])
            return read_ranges(self.base, archive, [(start, start + size) for start, size in places])
        except InputError as error:
            return [str(error)] * len(images)

    def _rows(self, archive: str) -> RowReader:
        from features.shards.tables import RowReader  # noqa: PLC0415 (Arrow costs more than the start of a process)

        if self._table is None or self._table[0] != archive:
            self._open.close()
            file = self._open.enter_context(open_binary(self.base, archive))
            self._table = archive, RowReader(file, parquet=archive.endswith(".parquet"))
        return self._table[1]
