"""The images of a data set in archives: numbers in memory, 30 bytes an image, and texts read from the scans."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.datasets.base import SPLITS, Image
from features.encoding.images import ValueRange
from features.shards.scan import Scan

Naming = Literal["member", "shard"]  # an image is called by its member alone, or by its archive and its member


@dataclass(frozen=True, eq=False)
class ShardRows(Sequence[Image]):
    """N images in the order of their archives; iteration reads the scans, so that no text stays in memory.

    Attributes:
        scans: what was found in each archive.
        naming: how images are called.
        class_ids: (N,) positions in the listing's classes.
        splits: (N,) positions in `SPLITS`.
        drawn: (N,) whether the split was drawn here.
        groups: (N,) equal numbers for images of one group, different ones for all others.
        contents: (N,) the first 64 bits of the sha256.
    """

    scans: tuple[Scan, ...]
    naming: Naming
    class_ids: NDArray[np.int32]
    splits: NDArray[np.int8]
    drawn: NDArray[np.bool_]
    groups: NDArray[np.uint64]
    contents: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.class_ids)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    @overload
    def __getitem__(self, key: int) -> Image: ...

    @overload
    def __getitem__(self, key: slice) -> tuple[Image, ...]: ...

    def __getitem__(self, key: int | slice) -> Image | tuple[Image, ...]:
        if isinstance(key, slice):
            return tuple(self)[key]
        return next(islice(self, range(len(self))[key], None))

    def __iter__(self) -> Iterator[Image]:
        start = 0
        for scan, batch in batches(self.scans, ["member"]):
            names = paths(scan, batch, self.naming)
            stop = start + len(names)
            rows = zip(names, self.class_ids[start:stop].tolist(), self.splits[start:stop].tolist(), strict=True)
            yield from (Image(path, class_id, SPLITS[split]) for path, class_id, split in rows)
            start = stop

    def kept_together(self) -> tuple[ShardRows, int]:
        """Return the images with copies and groups in one split, and how many were moved.

        All of a set follow to the training images if one of them is there, else to the validation images.
        """
        target = self.splits
        while True:
            before = target
            for keys in (self.contents, self.groups):
                _, sets = np.unique(keys, return_inverse=True)
                first = np.full(sets.max(initial=-1) + 1, len(SPLITS), np.int8)
                np.minimum.at(first, sets, target)
                target = first[sets]
            if np.array_equal(target, before):
                break
        splits = np.where(self.drawn, target, self.splits).astype(np.int8)
        return replace(self, splits=splits), int((splits != self.splits).sum())

    def copies(self) -> list[list[Image]]:
        """Return the sets of images that have equal bytes."""
        _, sets, counts = np.unique(self.contents, return_inverse=True, return_counts=True)
        found: dict[int, list[Image]] = defaultdict(list)
        if (counts > 1).any():
            for image, number, count in zip(self, sets.tolist(), counts[sets].tolist(), strict=True):
                if count > 1:
                    found[number].append(image)
        return [*found.values()]


def batches(scans: Sequence[Scan], columns: Sequence[str]) -> Iterator[tuple[Scan, pa.RecordBatch]]:
    """Yield some columns of all scans, and the scan that they are of."""
    for scan in scans:
        for batch in scan.batches(columns):
            yield scan, batch


def paths(scan: Scan, batch: pa.RecordBatch, naming: Naming) -> list[str]:
    """Return the names of images; in tables whose rows have no name, the number of the row is one."""
    members: list[str] = batch.column("member").to_pylist()
    return members if naming == "member" else [f"{scan.archive.name}/{member}" for member in members]


@dataclass
class Columns:
    """Numbers of N images, collected from scans.

    Attributes:
        labels: label -> its number, in the order of their appearance; None: no label.
        given: split as the archives write it -> its number; None: no split.
    """

    labels: dict[str | None, int] = field(default_factory=dict)
    given: dict[str | None, int] = field(default_factory=dict)
    label_ids: list[NDArray[np.int32]] = field(default_factory=list)
    given_ids: list[NDArray[np.int32]] = field(default_factory=list)
    names: list[NDArray[np.uint64]] = field(default_factory=list)
    units: list[NDArray[np.uint64]] = field(default_factory=list)
    contents: list[NDArray[np.uint64]] = field(default_factory=list)

    def add(self, scan: Scan, naming: Naming, split: str | None, unit: Callable[[str, str | None], int]) -> None:
        """Add the images of an archive; `split` is what its name says, if the images themselves say nothing."""
        for batch in scan.batches(["member", "label", "split", "group", "sha256"]):
            here = paths(scan, batch, naming)
            groups = batch.column("group").to_pylist()
            names = np.array([unit(path, None) for path in here], np.uint64)
            self.names.append(names)
            self.units.append(
                np.array([unit(path, group) for path, group in zip(here, groups, strict=True)], np.uint64)
                if any(groups)
                else names
            )
            self.contents.append(
                np.array([int(digest[:16], 16) for digest in batch.column("sha256").to_pylist()], np.uint64)
            )
            self.label_ids.append(_numbers(batch.column("label"), self.labels, None))
            self.given_ids.append(_numbers(batch.column("split"), self.given, split))


def _numbers(values: pa.Array, known: dict[str | None, int], default: str | None) -> NDArray[np.int32]:
    """Return a number for each text; `known` gets those of new texts."""
    encoded = values.dictionary_encode(null_encoding="encode")
    texts = [default if text is None else text for text in encoded.dictionary.to_pylist()]
    numbers = np.array([known.setdefault(text, len(known)) for text in texts], np.int32)
    return numbers[encoded.indices.to_numpy()] if len(values) else np.empty(0, np.int32)


def deep_ranges(scans: Sequence[Scan]) -> Iterator[ValueRange]:
    """Yield the value range of each image with more than 8 bits a channel."""
    for _, batch in batches(scans, ["low", "high", "floating"]):
        deep = batch.filter(pc.is_valid(batch.column("low")))
        yield from (ValueRange(row["low"], row["high"], row["floating"]) for row in deep.to_pylist())


def problems(rows: ShardRows) -> Iterator[str]:
    """Yield path and reason of each image whose bytes cannot be read."""
    for scan, batch in batches(rows.scans, ["member", "problem"]):
        broken = batch.filter(pc.is_valid(batch.column("problem")))
        for path, reason in zip(paths(scan, broken, rows.naming), broken.column("problem").to_pylist(), strict=True):
            yield f"{path}: {reason}"


def index_batches(rows: ShardRows, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the rows of an index: those of train, then val, then test, each in the order of the archives."""
    for number, split in enumerate(SPLITS):
        start = 0
        for scan, batch in batches(rows.scans, ["member", "position", "bytes", "sha256"]):
            stop = start + batch.num_rows
            here = rows.splits[start:stop] == number
            chosen = batch.filter(pa.array(here))
            columns = {
                "path": paths(scan, chosen, rows.naming),
                "class_id": rows.class_ids[start:stop][here],
                "split": [split] * chosen.num_rows,
                "bytes": chosen.column("bytes"),
                "sha256": chosen.column("sha256"),
                "archive": [scan.archive.name] * chosen.num_rows,
                "position": chosen.column("position"),
            }
            if chosen.num_rows:
                yield pa.RecordBatch.from_pydict(columns, schema=schema)
            start = stop
