"""The index: a data set's images as a Parquet table, its class names as JSON.

They are two files so that adding a class name changes no row: `extract`, which reads the table alone, does not rerun.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import TypeAdapter

from features.datasets.base import SPLITS, Counts, Listing, Origin, Split, canonical_name
from features.errors import InputError, raise_all
from features.formats.digests import Digest, digests
from features.formats.files import atomic_file, write_json
from features.formats.parquet import column, read_table
from features.formats.untrusted import read_json, wrap_parser_errors

AGAIN = "make it anew: dvc repro index"
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
    """N images, ordered train, val, test, then by class and path.

    Attributes:
        paths: N POSIX paths relative to the reader's folder.
        class_ids: (N,) positions in `ClassNames.classes`.
        splits: N split names.
        sizes: (N,) bytes.
        sha256: N hex digests of the files' bytes.
    """

    paths: tuple[str, ...]
    class_ids: NDArray[np.int32]
    splits: tuple[Split, ...]
    sizes: NDArray[np.int64]
    sha256: tuple[str, ...]

    def rows(self, split: Split) -> NDArray[np.int64]:
        """The positions of one split's images, ascending; they are consecutive."""
        return np.flatnonzero(np.array(self.splits) == split).astype(np.int64)


@dataclass(frozen=True)
class ClassNames:
    """C class names by class id, verbatim; templates with one `{}`; what else a `Listing` says of the data set."""

    classes: tuple[str, ...]
    templates: tuple[str, ...]
    origin: Origin
    missing: int
    descriptions: Mapping[str, str]


def write_index(listing: Listing, folder: Path, table: Path, names: Path, cache: Path) -> None:
    """Check a listing, hash its files below `folder`, and write the Parquet `table` and the JSON `names`.

    The same listing and files give the same bytes. `cache` keeps digests between calls and decides nothing.

    Raises:
        InputError: the listing contradicts itself or its published counts, or names files that cannot be read; every
            mistake is listed, and nothing is written.
    """
    raise_all(list(mistakes(listing)), f"the data set {listing.origin.title!r} in {folder} cannot be used")
    images = sorted(listing.images, key=lambda image: (SPLITS.index(image.split), image.class_id, image.path))
    found = digests(folder, [image.path for image in images], cache)
    unread = [f"{image.path}: {why}" for image, why in zip(images, found, strict=True) if isinstance(why, str)]
    raise_all(unread, f"{folder} lacks images that the data set names, or they cannot be read; mend the copy")
    sizes = [digest for digest in found if isinstance(digest, Digest)]
    index = Index(
        paths=tuple(image.path for image in images),
        class_ids=np.array([image.class_id for image in images], np.int32),
        splits=tuple(image.split for image in images),
        sizes=np.array([digest.size for digest in sizes], np.int64),
        sha256=tuple(digest.sha256 for digest in sizes),
    )
    save_index(index, table)
    save_names(listing, names)


def save_index(index: Index, path: Path) -> None:
    """Write the Parquet table; the same index gives the same bytes."""
    columns = (index.paths, index.class_ids, index.splits, index.sizes, index.sha256)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    with atomic_file(path) as part:
        pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), part, compression="zstd", use_dictionary=["split"])


def save_names(listing: Listing, path: Path) -> None:
    """Write the JSON with the class names; the same listing gives the same bytes."""
    write_json(
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
    """Read the Parquet table that `write_index` wrote.

    Raises:
        InputError: no such file, or not an index; its paths must stay in the data set's folder.
    """
    with wrap_parser_errors(path, AGAIN):
        table = read_table(path)
        if not table.schema.equals(SCHEMA):
            raise InputError(f"{path} is not an index: its columns are {table.schema.names}, not {SCHEMA.names}")
        columns = {name: column(table, name, path) for name in SCHEMA.names}
        index = Index(
            paths=tuple(columns["path"].tolist()),
            class_ids=columns["class_id"],
            splits=tuple(columns["split"].tolist()),
            sizes=columns["bytes"],
            sha256=tuple(columns["sha256"].tolist()),
        )
    raise_all(list(_wrong_rows(index)), f"{path} is no index that this project wrote; {AGAIN}")
    return index


def _wrong_rows(index: Index) -> Iterator[str]:
    yield from (f"{path!r}: {problem}" for path in index.paths if (problem := _bad_path(path)))
    unknown = sorted({*index.splits} - {*SPLITS})
    if unknown:
        yield f"splits {', '.join(map(repr, unknown))}"
    elif [*index.splits] != sorted(index.splits, key=SPLITS.index):
        yield f"rows are not in the order {', '.join(SPLITS)}"
    if len(index.paths) == 0 or index.class_ids.min() < 0 or index.sizes.min() < 0:
        yield "no rows, or numbers below 0"


def read_names(path: Path) -> ClassNames:
    """Read the JSON that `write_index` wrote.

    Raises:
        InputError: no such file, or not the names of an index.
    """
    with wrap_parser_errors(path, AGAIN):
        return TypeAdapter(ClassNames).validate_python(read_json(path, AGAIN))


def mistakes(listing: Listing) -> Iterator[str]:
    """What is wrong with the copy, and every way in which a listing contradicts itself or its published counts."""
    yield from listing.faults
    if not listing.images:
        yield "it has no images"
    yield from _bad_names(listing)
    for template in listing.templates:
        if template.count("{}") != 1 or re.search(r"[{}]", template.replace("{}", "")):
            yield f"template {template!r}: must have one {{}} for the class name and no other brace"
    if not listing.templates:
        yield "it has no template; the usual one is 'a photo of a {}.'"
    for image in listing.images:
        if not 0 <= image.class_id < len(listing.classes):
            yield f"{image.path}: class id {image.class_id} is not in 0 to {len(listing.classes) - 1}"
        if problem := _bad_path(image.path):
            yield f"{image.path!r}: {problem}"
    splits: dict[str, list[str]] = {}
    for image in listing.images:
        splits.setdefault(image.path, []).append(image.split)
    yield from (f"{path}: listed {len(s)} times ({', '.join(s)})" for path, s in splits.items() if len(s) > 1)
    if listing.origin.counts:
        yield from _wrong_counts(listing, listing.origin.counts)


def _bad_names(listing: Listing) -> Iterator[str]:
    """Names that are empty or unprintable, or that the text tower could not tell apart."""
    ids: dict[str, list[int]] = {}
    for class_id, name in enumerate(listing.classes):
        if name != name.strip() or not name.strip("_") or not name.isprintable():
            yield f"class {class_id} {name!r}: a name is printable text without spaces around it"
        if name not in listing.repeated_names:
            ids.setdefault(canonical_name(name), []).append(class_id)
    for same in ids.values():
        if len(same) > 1:
            named = ", ".join(f"{class_id} {listing.classes[class_id]!r}" for class_id in same)
            yield f"classes {named}: the same name; a text tower could not tell them apart, so rename all but one"


def _bad_path(path: str) -> str | None:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        return "leaves the data set's folder; a path is relative to it and has no `..`"
    if str(pure) != path:
        return f"write it as {str(pure)!r}"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "not UTF-8; rename the file"
    return None


def _wrong_counts(listing: Listing, counts: Counts) -> Iterator[str]:
    have = Counter[str](image.split for image in listing.images)
    have["train"] += listing.left_out
    published: dict[str, int] = asdict(counts)
    found = {part: have[part] for part in published} | {"classes": len(listing.classes)}
    if listing.missing:  # of which split is not known
        published = {"images": counts.train + counts.val + counts.test, "classes": counts.classes}
        found = {"images": have.total() + listing.missing, "classes": found["classes"]}
    for part, said in published.items():
        if found[part] != said:
            yield f"{part}: {found[part]:,}, but the published number is {said:,}: a partial copy, or another split?"
