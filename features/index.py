"""The index of a data set: its images as a Parquet table, its class names as JSON.

They are two files so that adding a class name changes no row. `extract` reads only the table and does not run again.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import TypeAdapter

from features.datasets.base import SPLITS, Counts, Listing, Origin, Split, canonical_name, is_template
from features.duplicates import Sets, duplicate_lines, find_duplicates, keep_together
from features.encoding.images import AS_IN_THE_PAPERS, Reading, levels_for
from features.errors import InputError, raise_all
from features.formats.digests import Digest, digests
from features.formats.files import canonical_json
from features.formats.parquet import column, read_sealed, write_sealed
from features.formats.seal import read_sealed_json, write_sealed_json
from features.formats.untrusted import wrap_parser_errors
from features.inspection import inspect_images, pixel_lines

FIX_HINT = "create it again: dvc repro index"
OWN = "own_images"  # key of the table's metadata with what only own images have
SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("class_id", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, eq=False)
class Index:
    """N images, ordered by split (train, val, test), class and path.

    Attributes:
        paths: N POSIX paths relative to the reader's folder.
        class_ids: (N,) positions in `ClassNames.classes`.
        splits: N split names.
        sizes: (N,) file sizes in bytes.
        sha256: N hex digests of the files' bytes.
        reading: How the pixels of all images are read.
        listing_sha256: `listing_digest` of the listing that was indexed, if the images are a user's own.
        duplicates: Paths of own images that show the same picture, in sets.
    """

    paths: tuple[str, ...]
    class_ids: NDArray[np.int32]
    splits: tuple[Split, ...]
    sizes: NDArray[np.int64]
    sha256: tuple[str, ...]
    reading: Reading = AS_IN_THE_PAPERS
    listing_sha256: str | None = None
    duplicates: Sets = ()

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Return the positions of one split's images; they are ascending and consecutive."""
        return np.flatnonzero(np.array(self.splits) == split).astype(np.int64)


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


def write_index(listing: Listing, folder: Path, table: Path, names: Path, cache: Path) -> tuple[str, ...]:
    """Check a listing, hash its files, and write the index.

    The same listing and files give the same bytes. Own images are also looked at: how deep their pixels are, and which
    show the same picture. Where splits were drawn here, copies are put on one side.

    Args:
        listing: The images and classes.
        folder: The folder that image paths are relative to.
        table: The Parquet file to write.
        names: The JSON file to write.
        cache: A file that keeps digests between calls; it does not affect the result.

    Returns:
        One line for each kind of thing to know about own images: unreadable ones, deep ones, copies.

    Raises:
        InputError: The listing contradicts itself or its published counts, or files cannot be read. Every mistake is
            listed, and nothing is written.
    """
    raise_all(list(mistakes(listing)), f"the data set {listing.origin.title!r} in {folder} cannot be used")

    hashed = _hashed(listing, folder, cache)
    images, reading = listing.images, AS_IN_THE_PAPERS
    duplicates: Sets = ()
    lines: list[str] = []
    if listing.own:
        paths, sha256 = list(hashed), [digest.sha256 for digest in hashed.values()]
        seen = inspect_images(folder, paths, sha256, cache.with_suffix(".parquet"), listing.origin.title)
        reading = Reading(upright=True, levels=levels_for(one.values for one in seen if one.values))
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
    save_names(listing, names)
    return tuple(lines)


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


def save_index(index: Index, path: Path) -> None:
    """Write the Parquet table; the same index gives the same bytes."""
    columns = (index.paths, index.class_ids, index.splits, index.sizes, index.sha256)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    facts = {"reading": index.reading.provenance(), "listing": index.listing_sha256, "duplicates": index.duplicates}
    schema = SCHEMA.with_metadata({OWN: canonical_json(facts)}) if any(facts.values()) else SCHEMA
    write_sealed(pa.Table.from_arrays(arrays, schema=schema), path, compression="zstd", use_dictionary=["split"])


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


def read_index(path: Path) -> Index:
    """Read the Parquet table of `write_index`.

    Raises:
        InputError: The file does not exist, is not an index, or has a path outside the data set's folder.
    """
    table = read_sealed(path, FIX_HINT)
    with wrap_parser_errors(path, FIX_HINT):
        if not table.schema.equals(SCHEMA):
            raise InputError(
                f"{path} is not an index: its columns are {table.schema.names}, expected {SCHEMA.names}; {FIX_HINT}"
            )
        columns = {name: column(table, name, path) for name in SCHEMA.names}
        facts = json.loads((table.schema.metadata or {}).get(OWN.encode(), b"{}"))
        index = Index(
            paths=tuple(columns["path"].tolist()),
            class_ids=columns["class_id"],
            splits=tuple(columns["split"].tolist()),
            sizes=columns["bytes"],
            sha256=tuple(columns["sha256"].tolist()),
            reading=Reading.from_provenance(facts.get("reading", {})),
            listing_sha256=facts.get("listing"),
            duplicates=tuple(tuple(paths) for paths in facts.get("duplicates", ())),
        )
    raise_all(list(_row_mistakes(index)), f"{path} was not written by this project; {FIX_HINT}")
    return index


def _row_mistakes(index: Index) -> Iterator[str]:
    for path in index.paths:
        if problem := _path_problem(path):
            yield f"{path!r}: {problem}"

    unknown = sorted({*index.splits} - {*SPLITS})
    if unknown:
        yield f"unknown splits {', '.join(map(repr, unknown))}; known: {', '.join(SPLITS)}"
    elif [*index.splits] != sorted(index.splits, key=SPLITS.index):
        yield f"rows are not in the order {', '.join(SPLITS)}"

    if len(index.paths) == 0:
        yield "there are no rows"
    elif index.class_ids.min() < 0 or index.sizes.min() < 0:
        yield "class_id or bytes has negative numbers"


def read_names(path: Path) -> ClassNames:
    """Read the JSON of `write_index`.

    Raises:
        InputError: The file does not exist or does not hold class names.
    """
    with wrap_parser_errors(path, FIX_HINT):
        return TypeAdapter(ClassNames).validate_python(read_sealed_json(path, FIX_HINT))


def mistakes(listing: Listing) -> Iterator[str]:
    """Yield the faults of a copy, and every contradiction of its listing with itself or its published counts."""
    yield from listing.faults
    if not listing.images:
        yield "it has no images"

    yield from _name_mistakes(listing)
    yield from _template_mistakes(listing)
    yield from _image_mistakes(listing)
    if listing.origin.counts:
        yield from _count_mistakes(listing, listing.origin.counts)


def _name_mistakes(listing: Listing) -> Iterator[str]:
    """Yield class names that are empty or unprintable, or that the text tower could not distinguish."""
    ids_by_name: dict[str, list[int]] = defaultdict(list)
    for class_id, name in enumerate(listing.classes):
        if name != name.strip() or not name.strip("_") or not name.isprintable():
            yield f"class {class_id} {name!r}: a class name must be printable text without spaces around it"
        if name not in listing.repeated_names:
            ids_by_name[canonical_name(name)].append(class_id)

    for ids in ids_by_name.values():
        if len(ids) > 1:
            same = ", ".join(f"{class_id} {listing.classes[class_id]!r}" for class_id in ids)
            yield f"classes {same}: the same name for a text tower; rename all but one"


def _template_mistakes(listing: Listing) -> Iterator[str]:
    for template in listing.templates:
        if not is_template(template):
            yield f"template {template!r}: must have one {{}} for the class name and no other brace"
    if not listing.templates:
        yield "there is no template; the usual one is 'a photo of a {}.'"


def _image_mistakes(listing: Listing) -> Iterator[str]:
    splits_by_path: dict[str, list[str]] = defaultdict(list)
    for image in listing.images:
        splits_by_path[image.path].append(image.split)
        if not 0 <= image.class_id < len(listing.classes):
            yield f"{image.path}: class id {image.class_id} is not in 0 to {len(listing.classes) - 1}"
        if problem := _path_problem(image.path):
            yield f"{image.path!r}: {problem}"

    for path, splits in splits_by_path.items():
        if len(splits) > 1:
            yield f"{path}: listed {len(splits)} times ({', '.join(splits)})"


def _path_problem(path: str) -> str | None:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        return "outside the data set's folder; a path must be relative to it, without `..`"
    if str(pure) != path:
        return f"write it as {str(pure)!r}"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "the name is not UTF-8; rename the file"
    return None


def _count_mistakes(listing: Listing, counts: Counts) -> Iterator[str]:
    per_split = Counter[str](image.split for image in listing.images)
    per_split["train"] += listing.left_out
    published: dict[str, int] = asdict(counts)
    actual = {part: per_split[part] for part in published} | {"classes": len(listing.classes)}

    # The split of a missing image may be unknown, so a partial copy is compared by its total.
    if listing.missing:
        published = {"images": counts.train + counts.val + counts.test, "classes": counts.classes}
        actual = {"images": per_split.total() + listing.missing, "classes": actual["classes"]}

    for part, expected in published.items():
        if actual[part] != expected:
            yield f"{part}: {actual[part]:,}, published: {expected:,}; is the copy incomplete, or the split another?"
