"""The index of a data set: its images as a Parquet table, its class names as JSON.

They are two files so that adding a class name changes no row. `extract` reads only the table and does not run again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from features.datasets.base import SPLITS, Listing, Origin
from features.duplicates import Sets, duplicate_lines, find_duplicates, keep_together
from features.encoding.images import AS_IN_THE_PAPERS, MAX_PIXELS, Reading, levels_for
from features.errors import raise_all
from features.formats.digests import Digest, digests
from features.formats.files import canonical_json
from features.formats.parquet import sealed_writer
from features.formats.seal import read_sealed_json, write_sealed_json
from features.formats.untrusted import wrap_parser_errors
from features.index_table import FEW, FIX_HINT, OWN, SHARD_SCHEMA, Index, save_index
from features.inspection import inspect_images, pixel_lines, problem_lines
from features.listing_checks import mistakes
from features.shards.archives import Base
from features.shards.rows import ShardRows, deep_ranges, index_batches, problems


@dataclass(frozen=True)
class ClassNames:
    """The part of a `Listing` that names classes.

    Attributes:
        classes: C class names by class id, verbatim.
        templates: Prompts with one `{}` for the class name.
        origin: Source, licence and published counts.
        missing: Number of images that the data set has and this copy lacks.
        descriptions: Class name -> the text that templates add after it.
    """

    classes: tuple[str, ...]
    templates: tuple[str, ...]
    origin: Origin
    missing: int
    descriptions: Mapping[str, str]


def write_index(
    listing: Listing, folder: Base, table: Path, names: Path, cache: Path, *, seconds: float = math.inf
) -> tuple[str, ...]:
    """Check a listing, hash its files, and write the index.

    The same listing and files give the same bytes. Own images are also looked at: how deep their pixels are, and which
    show the same picture. Where splits were drawn here, copies are put on one side.

    Args:
        listing: The images and classes.
        folder: The folder that image paths are relative to, or the address of archives.
        table: The Parquet file to write.
        names: The JSON file to write.
        cache: A file that keeps digests between calls; it does not affect the result.
        seconds: The time to decode own images; those that are left are only opened.

    Returns:
        One line for each kind of thing to know about own images: unreadable ones, deep ones, copies.

    Raises:
        InputError: The listing contradicts itself or its published counts, or files cannot be read. Every mistake is
            listed, and nothing is written.
    """
    raise_all(list(mistakes(listing)), f"the data set {listing.origin.title!r} in {folder} cannot be used")
    if isinstance(listing.images, ShardRows):
        lines = _write_shards(listing.images, table, listing.max_pixels or MAX_PIXELS)
    else:
        lines = _write_files(listing, Path(folder), table, cache, seconds)
    save_names(listing, names)
    return tuple(lines)


def _write_files(listing: Listing, folder: Path, table: Path, cache: Path, seconds: float) -> list[str]:
    """Write the table of images that are files, and return the lines of `write_index`; see there."""
    hashed = _hashed(listing, folder, cache)
    images, reading = listing.images, AS_IN_THE_PAPERS
    duplicates: Sets = ()
    lines: list[str] = []
    if listing.own:
        paths, sha256 = list(hashed), [digest.sha256 for digest in hashed.values()]
        title, limit = listing.origin.title, listing.max_pixels or MAX_PIXELS
        results = cache.with_suffix(".parquet")
        seen = inspect_images(folder, paths, sha256, results, title, max_pixels=limit, seconds=seconds)
        reading = Reading(upright=True, levels=levels_for(one.values for one in seen if one.values), max_pixels=limit)
        duplicates = find_duplicates(paths, sha256, [one.thumbnail for one in seen])
        together = keep_together(images, listing.drawn, duplicates, listing.groups)
        images = together.images
        lines = [*pixel_lines(paths, seen), *duplicate_lines(images, duplicates, together.moved)]

    images = tuple(sorted(images, key=lambda image: (SPLITS.index(image.split), image.class_id, image.path)))
    index = Index(
        paths=tuple(image.path for image in images),
        class_ids=np.array([image.class_id for image in images], np.int32),
        splits=tuple(image.split for image in images),
        sizes=np.array([hashed[image.path].size for image in images], np.int64),
        sha256=tuple(hashed[image.path].sha256 for image in images),
        reading=reading,
        listing_sha256=listing_digest(listing) if listing.own else None,
        duplicates=duplicates,
    )
    save_index(index, table)
    return lines


def _write_shards(rows: ShardRows, table: Path, max_pixels: int) -> list[str]:
    """Write the table of images in archives, and return the lines of `write_index`; see there.

    Their pixels are not compared: only images of equal bytes are copies. The table is written as it is read, so the
    memory holds numbers alone.
    """
    rows, moved = rows.kept_together()
    copies = rows.copies()
    duplicates = tuple(sorted(tuple(sorted(image.path for image in images)) for images in copies))
    deep = [*deep_ranges(rows.scans)]
    reading = Reading(upright=True, levels=levels_for(deep), max_pixels=max_pixels)
    archives = {scan.archive.name: scan.archive.size for scan in rows.scans}
    facts = {"reading": reading.provenance(), "archives": archives, "duplicates": duplicates}

    schema = SHARD_SCHEMA.with_metadata({OWN: canonical_json(facts)})
    with sealed_writer(table, schema, compression="zstd", use_dictionary=[*FEW]) as writer:
        for batch in index_batches(rows, schema):
            writer.write_batch(batch)
    return [
        *problem_lines([*problems(rows)], deep),
        *duplicate_lines([*chain.from_iterable(copies)], duplicates, moved),
    ]


def _hashed(listing: Listing, folder: Path, cache: Path) -> dict[str, Digest]:
    """Return the digest of each image by its path, in the order of the paths.

    Raises:
        InputError: Files cannot be read; lists all of them.
    """
    paths = sorted(image.path for image in listing.images)
    results = dict(zip(paths, digests(folder, paths, cache, links=listing.own), strict=True))
    unreadable = [f"{path}: {reason}" for path, reason in results.items() if isinstance(reason, str)]
    raise_all(unreadable, f"images in {folder} are missing or cannot be read; fix the copy")
    return {path: digest for path, digest in results.items() if isinstance(digest, Digest)}


def listing_digest(listing: Listing) -> str:
    """Return a digest of paths, classes, splits and groups, by which a later listing of the same folder is compared."""
    rows = sorted((image.path, listing.classes[image.class_id], image.split) for image in listing.images)
    text = json.dumps([rows, sorted(listing.groups.items())])
    return hashlib.sha256(text.encode()).hexdigest()


def save_names(listing: Listing, path: Path) -> None:
    """Write the JSON with the class names; the same listing gives the same bytes."""
    write_sealed_json(
        path,
        {
            "classes": listing.classes,
            "templates": listing.templates,
            "origin": asdict(listing.origin),
            "missing": listing.missing,
            "descriptions": dict(listing.descriptions),
        },
    )


def read_names(path: Path) -> ClassNames:
    """Read the JSON of `write_index`.

    Raises:
        InputError: The file does not exist or does not hold class names.
    """
    with wrap_parser_errors(path, FIX_HINT):
        return TypeAdapter(ClassNames).validate_python(read_sealed_json(path, FIX_HINT))
