"""Find out whether a folder of own images is still what was indexed, from names, sizes and times alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from features.datasets.base import Listing
from features.formats.digests import load_cache
from features.index import listing_digest
from features.index_table import Index
from features.shards.archives import Archive
from features.splits.image_files import examples


@dataclass(frozen=True)
class Changes:
    """What differs from the index; all empty: nothing.

    Attributes:
        added: Paths that the index lacks.
        removed: Paths that only the index has.
        replaced: Paths of files with another size or time; the bytes may be the same.
        relabelled: Whether classes, splits or groups differ although the paths are the same.
    """

    added: list[str]
    removed: list[str]
    replaced: list[str]
    relabelled: bool

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.replaced or self.relabelled)

    def __str__(self) -> str:
        return "; ".join(self._parts())

    def _parts(self) -> Iterator[str]:
        for what, paths in (("added", self.added), ("removed", self.removed), ("replaced", self.replaced)):
            if paths:
                yield f"{len(paths)} {what} ({examples(paths)})"
        if self.relabelled:
            yield "classes, splits or groups have changed"


def changes_since(index: Index, listing: Listing, folder: Path, cache: Path) -> Changes:
    """Return what changed in a folder since it was indexed; 100,000 files take some seconds.

    Args:
        index: The index of the data set.
        listing: What its reader finds now.
        folder: The folder that paths are relative to.
        cache: The file that keeps digests, sizes and times (`features.formats.digests`). Without it, as on the machine
            of a colleague, times are not compared.
    """
    sizes = dict(zip(index.paths, index.sizes.tolist(), strict=True))
    times = {path: digest.mtime_ns for path, digest in load_cache(cache, folder).items()}

    now = [image.path for image in listing.images]
    added = [path for path in now if path not in sizes]
    removed = sorted({*sizes} - {*now})
    replaced = [path for path in now if path in sizes and _differs(f"{folder}/{path}", sizes[path], times.get(path))]
    relabelled = listing_digest(listing) != index.listing_sha256
    return Changes(added, removed, replaced, relabelled and not added and not removed)


def changed_archives(index: Index, archives: Sequence[Archive], is_scanned: Callable[[Archive], bool]) -> Changes:
    """Return what changed among the archives of a data set since it was indexed; no archive is opened.

    Args:
        index: The index of the data set.
        archives: The archives that are there now.
        is_scanned: Returns whether an archive, as it is now, was read before. Where none was, as on the machine of a
            colleague, sizes alone are compared.
    """
    before = dict(index.places.archives) if index.places else {}
    now = {archive.name: archive for archive in archives}
    kept = [archive for name, archive in now.items() if name in before]
    compare_times = any(map(is_scanned, kept))
    return Changes(
        added=[name for name in now if name not in before],
        removed=sorted({*before} - {*now}),
        replaced=[
            archive.name
            for archive in kept
            if archive.size != before[archive.name] or (compare_times and not is_scanned(archive))
        ],
        relabelled=False,
    )


def _differs(file: str, size: int, mtime_ns: int | None) -> bool:
    try:
        status = os.stat(file)  # noqa: PTH116 (a hundred thousand files)
    except OSError:
        return True
    return status.st_size != size or mtime_ns not in (None, status.st_mtime_ns)
