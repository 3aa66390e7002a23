"""Own images that changed since they were indexed. DVC does not track images, so it would keep the old results."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from features.datasets.base import Image, reader_from
from features.datasets.image_shards import ImageShards
from features.duplicates import LISTED, crossing_sets
from features.errors import Problems, are, combined_error, counted, raise_all, shown
from features.freshness import Changes, changed_archives, changes_since
from features.index_table import read_index
from features.listing_checks import mistakes
from features.shards.scan import scan_file
from features.splits.own_images import OwnImages
from pipeline.artifacts.paths import digests, index
from pipeline.config.params import Params
from pipeline.executor.repro import reindex


def stale_indexes(params: Params) -> dict[str, Changes]:
    """Return the data sets of own images that have changed since they were indexed, and what changed.

    A data set whose images are not on this machine is left out: its features are all that a colleague needs.

    Raises:
        InputError: lists every problem of the data sets that changed and cannot be indexed as they are.
    """
    stale: dict[str, Changes] = {}
    problems = Problems()
    for name in params.grid.datasets:
        problems.attempt(partial(_compare, params, name, stale))
    raise_all(problems.messages, "own images changed and cannot be indexed again as they are")
    return stale


def reindex_changed(params: Params) -> bool:
    """Index own images again that have changed since, and say what has; return whether any have."""
    stale = stale_indexes(params)
    for name, changes in stale.items():
        print(f"{name}: images changed since they were indexed: {changes}; indexing them again", flush=True)
    reindex([*stale])
    return bool(stale)


def copies_across_splits(params: Params) -> Iterator[str]:
    """Yield a line for each data set of own images in which a picture is in training and in test images."""
    for name in params.grid.datasets:
        if not index(name).exists():
            continue
        indexed = read_index(index(name))
        rows = zip(indexed.paths, indexed.class_ids.tolist(), indexed.splits, strict=True)
        if indexed.duplicates and (sets := crossing_sets([Image(*row) for row in rows], indexed.duplicates)):
            listed = ", ".join(" = ".join(map(shown, members[:LISTED])) for members in sets[:LISTED])
            yield (
                f"{name}: {counted(len(sets), 'picture')} {are(len(sets))} in training and in test images, so its "
                "accuracies are too high "
                f"({listed}{', ...' if len(sets) > LISTED else ''})"
            )


def _compare(params: Params, name: str, stale: dict[str, Changes]) -> None:
    """Add a data set to `stale` if its images have changed."""
    root = Path(params.data.root)
    reader = Problems().attempt(partial(reader_from, params.data.sets[name], name))  # `check` reports its mistakes
    if not isinstance(reader, OwnImages) or not index(name).exists():
        return
    if isinstance(reader, ImageShards):
        _compare_archives(reader, root, name, stale)
        return
    listing = Problems().attempt(partial(reader.read, root))
    if listing is None or not listing.images:
        return

    indexed = read_index(index(name))
    if changes := changes_since(indexed, listing, reader.folder(root), digests(name)):
        if faults := [*mistakes(listing)]:
            raise combined_error(faults, f"{name}: {changes}")
        stale[name] = changes


def _compare_archives(reader: ImageShards, root: Path, name: str, stale: dict[str, Changes]) -> None:
    """Add a data set in archives to `stale` if they have changed; stage `index` reports what is wrong with new ones."""
    found = Problems().attempt(partial(reader.list_archives, root))
    if found is None or not found[0]:
        return
    base = reader.base(root)
    limit = reader.max_pixels
    changes = changed_archives(
        read_index(index(name)), found[0], lambda archive: scan_file(base, archive, limit).exists()
    )
    if changes:
        stale[name] = changes
