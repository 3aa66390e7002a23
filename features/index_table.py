"""The table of an index: one row for each image. It is read into Arrow's memory, 140 bytes an image.

Images in archives have two more columns, which say where their bytes are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.datasets.base import SPLITS, Split
from features.duplicates import Sets
from features.encoding.images import AS_IN_THE_PAPERS, Reading
from features.errors import InputError, raise_all
from features.formats.files import canonical_json
from features.formats.parquet import column, read_schema, read_table, write_sealed
from features.formats.seal import check_seal
from features.formats.texts import Texts
from features.formats.untrusted import wrap_parser_errors
from features.listing_checks import path_problem
from features.shards.source import ImageRef, Place

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
SHARD_SCHEMA = pa.schema(
    [
        *SCHEMA,
        pa.field("archive", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),  # of the first byte in a tar, of the row in a table
    ]
)
ODD = r"(^|/)\.{0,2}(/|$)"  # a part of a path that is empty, `.` or `..`
FEW = ("split", "archive")  # columns of few different texts


@dataclass(frozen=True, eq=False)
class Places:
    """Where N images lie in archives.

    Attributes:
        archives: Names and sizes in bytes of the archives, relative to the reader's folder or address.
        archive_ids: (N,) positions in `archives`.
        positions: (N,) of an image's first byte in a tar, or of its row in a table.
    """

    archives: tuple[tuple[str, int], ...]
    archive_ids: NDArray[np.int32]
    positions: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Index:
    """N images, ordered by split (train, val, test), class and path; those in archives by split and archive.

    Attributes:
        paths: N POSIX paths relative to the reader's folder; of images in archives, their names.
        class_ids: (N,) positions in `ClassNames.classes`.
        splits: N split names.
        sizes: (N,) file sizes in bytes.
        sha256: N hex digests of the files' bytes.
        reading: How the pixels of all images are read.
        listing_sha256: `listing_digest` of the listing that was indexed, if the images are a user's own files.
        duplicates: Paths of own images that show the same picture, in sets.
        places: Where the images lie in archives; None: they are files.
    """

    paths: Sequence[str]
    class_ids: NDArray[np.int32]
    splits: Sequence[Split]
    sizes: NDArray[np.int64]
    sha256: Sequence[str]
    reading: Reading = AS_IN_THE_PAPERS
    listing_sha256: str | None = None
    duplicates: Sets = ()
    places: Places | None = None

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Return the positions of one split's images; they are ascending and consecutive."""
        return np.flatnonzero(self.split_codes() == SPLITS.index(split))

    def split_codes(self) -> NDArray[np.int8]:
        """Return the splits (N,) as positions in `SPLITS`; -1 of an unknown one."""
        known = pa.array(SPLITS)
        chunks = [
            pc.index_in(chunk.cast(pa.string()), known).fill_null(-1) for chunk in Texts(self.splits).values.chunks
        ]
        return np.concatenate([np.empty(0, np.int8), *(chunk.to_numpy().astype(np.int8) for chunk in chunks)])

    def image(self, row: int) -> ImageRef:
        """Return an image, from which its bytes can be read."""
        place = None
        if self.places is not None:
            archive, _ = self.places.archives[self.places.archive_ids[row]]
            place = Place(archive, int(self.places.positions[row]))
        return ImageRef(self.paths[row], int(self.sizes[row]), self.sha256[row], place)

    def part(self, rows: range) -> Index:
        """Return the index of some consecutive images, which are read as they are here."""
        cut, places = slice(rows.start, rows.stop), self.places
        if places is not None:
            places = replace(places, archive_ids=places.archive_ids[cut], positions=places.positions[cut])
        return Index(
            self.paths[cut],
            self.class_ids[cut],
            self.splits[cut],
            self.sizes[cut],
            self.sha256[cut],
            self.reading,
            places=places,
        )


def save_index(index: Index, path: Path) -> None:
    """Write the Parquet table; the same index gives the same bytes."""
    columns: tuple[Iterable[Any], ...] = (index.paths, index.class_ids, index.splits, index.sizes, index.sha256)
    arrays = [pa.array(list(values), field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    facts = {"reading": index.reading.provenance(), "listing": index.listing_sha256, "duplicates": index.duplicates}
    schema = SCHEMA.with_metadata({OWN: canonical_json(facts)}) if any(facts.values()) else SCHEMA
    write_sealed(pa.Table.from_arrays(arrays, schema=schema), path, compression="zstd", use_dictionary=["split"])


def read_index(path: Path) -> Index:
    """Read the Parquet table of `write_index`; texts stay in Arrow's memory.

    Raises:
        InputError: The file does not exist, is not an index, or has a path outside the data set's folder.
    """
    check_seal(path, FIX_HINT)
    with wrap_parser_errors(path, FIX_HINT):
        schema = read_schema(path)
        if schema.equals(SCHEMA):
            columns = SCHEMA.names
        elif schema.equals(SHARD_SCHEMA):
            columns = SHARD_SCHEMA.names
        else:
            raise InputError(
                f"{path} is not an index: its columns are {schema.names}, expected {SCHEMA.names}; {FIX_HINT}"
            )
        facts = json.loads((schema.metadata or {}).get(OWN.encode(), b"{}"))
        # One column after the other, because a table of ten million rows takes gigabytes while it is decoded.
        read = {name: _column(path, name) for name in columns}
        index = Index(
            paths=read["path"],
            class_ids=read["class_id"],
            splits=read["split"],
            sizes=read["bytes"],
            sha256=read["sha256"],
            reading=Reading.from_provenance(facts.get("reading", {})),
            listing_sha256=facts.get("listing"),
            duplicates=tuple(tuple(paths) for paths in facts.get("duplicates", ())),
            places=_places(facts, read["archive"], read["position"]) if "position" in columns else None,
        )
    raise_all(list(_row_mistakes(index)), f"{path} was not written by this project; {FIX_HINT}")
    return index


def _column(path: Path, name: str) -> Any:
    """Return a column of numbers as an array, and one of texts as `Texts`; of few different texts each is kept once."""
    table = read_table(path, [name])
    if pa.types.is_integer(table.schema.field(name).type):
        return column(table, name, path)
    if table[name].null_count:
        raise InputError(f"{path}: column {name!r} has missing values")
    table[name].validate(full=True)  # also that texts are UTF-8
    return Texts(table[name].dictionary_encode() if name in FEW else table[name])


def _places(facts: Mapping[str, Any], archives: Texts, positions: NDArray[np.int64]) -> Places:
    encoded = archives.values.unify_dictionaries()
    names = encoded.chunk(0).dictionary.to_pylist() if encoded.num_chunks else []
    return Places(
        tuple((name, int(facts["archives"][name])) for name in names),
        np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks] or [np.empty(0)]).astype(np.int32),
        positions,
    )


def _row_mistakes(index: Index) -> Iterator[str]:
    # A look at each of ten million paths takes a minute in Python, and none at those without an odd part.
    odd = pc.match_substring_regex(Texts(index.paths).values, ODD)
    for row in np.flatnonzero(odd.to_numpy()).tolist():
        if problem := path_problem(index.paths[row]):
            yield f"{index.paths[row]!r}: {problem}"

    codes = index.split_codes()
    if (codes < 0).any():
        unknown = sorted({*index.splits} - {*SPLITS})
        yield f"unknown splits {', '.join(map(repr, unknown))}; known: {', '.join(SPLITS)}"
    elif (np.diff(codes) < 0).any():
        yield f"rows are not in the order {', '.join(SPLITS)}"

    if len(index.paths) == 0:
        yield "there are no rows"
    elif index.class_ids.min() < 0 or index.sizes.min() < 0:
        yield "class_id or bytes has negative numbers"
