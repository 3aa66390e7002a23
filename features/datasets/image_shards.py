"""Own images in archives: WebDataset's tars, or Parquet and Arrow tables with the bytes of images. Nothing is unpacked.

The archives lie in a folder or at an address of fsspec (`s3://bucket/birds`, `hf://datasets/user/birds`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from features.datasets.base import SPLITS, Listing, Split
from features.encoding.images import MAX_PIXELS
from features.errors import combined_error
from features.shards.archives import Archive, Base, base_of, find_archives, is_address, names_beside, read_text
from features.shards.rows import Columns, Naming, ShardRows, batches, paths
from features.shards.scan import Scan, scan_all
from features.splits.folder_layout import split_in_name, split_of, splits_of_names
from features.splits.image_files import examples
from features.splits.own_images import NOT_GIVEN, OwnImages

NO_LABEL = "it has no label: give it a .cls or .json beside it, a folder, or a column label"


class ImageShards(OwnImages):
    """Options of `reader: image_shards`, in addition to those of `OwnImages`.

    Attributes:
        shards: The archives below `path`: a name, a pattern with `*`, or with `{000000..000009}`.
        splits: `hash` draws each image's split; `shards` takes it from the archive's name or folder, such as
            `train-000000.tar` or `test/0.parquet`. A split that a row or a `.json` gives counts in both.
        naming: An image is called by its `member` alone, as in a folder of the same images, or by its `shard` and its
            member, where members of several archives have the same names.
        class_names: A text file in `path` with one name per line, for labels that are numbers from 0 on.
    """

    shards: str = "**/*.tar"
    splits: Literal["hash", "shards"] = "hash"
    naming: Naming = "member"
    class_names: str | None = None

    layout: ClassVar[str] = "tars, Parquet or Arrow files that hold images"
    source: ClassVar[str] = "the images are your own"

    def base(self, root: Path) -> Base:
        """Return the folder or the address below which the archives lie; see `Reader.folder`."""
        return base_of(self.path) if is_address(self.path) else self.folder(root)

    def list_archives(self, root: Path) -> tuple[list[Archive], list[str]]:
        """Return the archives, without opening them, and what is wrong with their names."""
        return find_archives(self.base(root), self.shards)

    def read(self, root: Path) -> Listing:
        """List the images of all archives; see `Reader.read`. An archive is read once, and again if it changes."""
        base = self.base(root)
        archives, faults = self.list_archives(root)
        scans, unreadable = scan_all(base, archives, self.path, self.max_pixels)
        faults += unreadable
        columns = Columns()
        for scan in scans:
            split = split_in_name(scan.archive.name) if self.splits == "shards" else None
            columns.add(scan, self.naming, split, self.unit)
            if split is None and self.splits == "shards":
                faults.append(f"{scan.archive.name}: neither its name nor its folder names a split")
        if not columns.label_ids or None in columns.labels:
            faults += self._unlabelled(scans) if scans else []
            raise combined_error(faults or ["there is no image"], f"{base}/{self.shards} cannot be read")

        return self._listing(base, scans, columns, faults)

    def _listing(self, base: Base, scans: Sequence[Scan], columns: Columns, faults: list[str]) -> Listing:
        found = [label for label in columns.labels if label is not None]
        names = self._names(base, found, faults)
        labels = sorted({*names.values()})
        class_of = np.array([labels.index(names[label]) for label in found], np.int32)
        class_ids = class_of[np.concatenate(columns.label_ids)]

        splits, notes = splits_of_names([name for name in columns.given if name is not None])
        unknown = [name for name in columns.given if name is not None and name not in splits]
        faults += [f"split {name!r}; expected {', '.join(SPLITS)}, or no value" for name in unknown]
        codes = [_position(splits.get(name)) if name else NOT_GIVEN for name in columns.given]
        given = np.array(codes, np.int8)[np.concatenate(columns.given_ids)]

        units, members = np.concatenate(columns.units), np.concatenate(columns.names)
        passed_over = [one for scan in scans for one in scan.passed_over()]
        empty = self.without_images(labels, faults, passed_over=passed_over, notes=notes)
        assigned, drawn = self.draw_splits(labels, class_ids, given, units)
        rows = ShardRows(tuple(scans), self.naming, class_ids, assigned, drawn, units, np.concatenate(columns.contents))
        return replace(empty, images=rows, faults=(*empty.faults, *_repeated(rows, members)))

    def _names(self, base: Base, labels: Sequence[str], faults: list[str]) -> Mapping[str, str]:
        """Return label -> the name in the file `class_names`, or the label itself."""
        if self.class_names is None:
            return {label: label for label in labels}
        listed = [line.strip() for line in read_text(base, self.class_names).splitlines() if line.strip()]
        named = {str(number): name for number, name in enumerate(listed)}
        faults += [f"label {label!r} is no line of {self.class_names}" for label in labels if label not in named]
        return {label: named.get(label, label) for label in labels}

    def _unlabelled(self, scans: Sequence[Scan]) -> Iterator[str]:
        """Yield one line on the images without a label."""
        found = []
        for scan, batch in batches(scans, ["member", "label"]):
            labels = batch.column("label").to_pylist()
            named = zip(paths(scan, batch, "shard"), labels, strict=True)
            found += [path for path, label in named if label is None]
        if found:
            yield f"{len(found)} images: {NO_LABEL} ({examples(found)})"


def _position(split: Split | None) -> int:
    return NOT_GIVEN if split is None else SPLITS.index(split)


def _repeated(rows: ShardRows, names: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> Iterator[str]:
    """Yield one line on images that have the same name."""
    _, first, counts = np.unique(names, return_index=True, return_counts=True)
    if (counts > 1).any():
        shown = examples([rows[int(at)].path for at in np.sort(first[counts > 1])[:4]])
        hint = "set naming: shard" if rows.naming == "member" else "write each name once"
        yield f"{int((counts > 1).sum()):,} names are those of several images ({shown}); {hint}"


def suggested_options(path: str, shards: str, root: Path, max_pixels: int | None = None) -> dict[str, str]:
    """Return the options of the reader that archives ask for by their names and by those of their members.

    Raises:
        InputError: An address cannot be used.
    """
    plain = ImageShards(reader="image_shards", path=path, shards=shards, max_pixels=max_pixels or MAX_PIXELS)
    base, (archives, _) = plain.base(root), plain.list_archives(root)
    splits = [split_in_name(archive.name) for archive in archives]
    options = {"splits": "shards"} if "train" in {split_of(name) for name in splits if name} and all(splits) else {}
    if "classnames.txt" in names_beside(base, ["classnames.txt"]):
        options["class_names"] = "classnames.txt"

    columns = Columns()
    for scan in scan_all(base, archives, path, plain.max_pixels)[0]:
        columns.add(scan, "member", None, plain.unit)
    names = np.concatenate(columns.names or [np.empty(0, np.uint64)])
    return options | ({"naming": "shard"} if len(np.unique(names)) < len(names) else {})
