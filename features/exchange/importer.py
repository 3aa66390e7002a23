"""Features that somebody has computed elsewhere become a store, an index and class names, as if extracted here.

They are what their file says, bit for bit: nothing is normalised, and float32 becomes float16 only when asked for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from features.datasets.base import SPLITS, Image, Listing, Origin, Split
from features.errors import InputError, raise_all
from features.exchange.formats.base import FeatureFile, format_of
from features.exchange.rows import ImportRequest, SplitArrays, gather
from features.formats.files import sha256
from features.image_store.provenance import FORMAT
from features.image_store.writer import chunk_rows, encode_shard, plan_shards, write_store
from features.index import Index, mistakes, save_index, save_names


@dataclass(frozen=True, eq=False)
class Imported:
    """What a file holds, ready to be written. `facts`: fields of `features.image_store.store.Meta`."""

    parts: Mapping[Split, SplitArrays]
    listing: Listing
    facts: Mapping[str, Any]


def read_features(wish: ImportRequest) -> Imported:
    """Read a file of features and see that it says all that the pipeline needs.

    Raises:
        InputError: the file cannot be read, or says too little or what cannot be.
    """
    if not wish.source.exists():
        raise InputError(f"there is no {wish.source}")
    made = format_of(wish.source)
    content = made.read(wish.source, wish.keys)
    facts = _facts(wish, content, made.files(wish.source))
    parts, classes, templates = gather(content, wish)
    listing = _listing(wish, parts, classes, templates)
    raise_all(list(mistakes(listing)), f"{wish.source} cannot be imported")
    return Imported(parts, listing, facts)


def save_features(found: Imported, *, store: Path, table: Path, names: Path, scratch: Path) -> None:
    """Write the store, the index's Parquet `table` and its JSON `names`.

    In the index, a row's id stands where an image's path does, and the bytes and sha256 of its features where an
    image's are, so that a store and its index can be told to belong together.
    """
    index = _index(found.listing, found.parts)
    _write(store, index, found.parts, found.facts, scratch)
    save_index(index, table)
    save_names(found.listing, names)


def _facts(wish: ImportRequest, content: FeatureFile, files: Sequence[Path]) -> dict[str, Any]:
    """`Meta`'s fields that say what made the features."""
    said = dict(content.facts or {})
    given = {"encoder": wish.encoder, "weights_sha256": wish.weights_sha256}
    problems = [
        f"{key}: the file says {said[key]!r}, you say {value!r}"
        for key, value in given.items()
        if value and said.get(key, value) != value
    ]
    problems += [f"--{key.replace('_', '-')}: not given" for key in given if not given[key] and key not in said]
    facts = said | {key: value for key, value in given.items() if value}
    if not problems and not re.fullmatch("[0-9a-f]{64}", str(facts["weights_sha256"])):
        problems.append(f"{facts['weights_sha256']!r} is no sha256, which has 64 digits of 0-9a-f")
    raise_all(problems, f"{wish.source}: without knowing whose features these are, no text can be compared with them")
    if content.facts:
        return facts
    digests = [sha256(file) for file in files]
    return facts | {
        "format": FORMAT,
        "preprocess": {},
        "precision": "",
        "views": max(block.features.shape[1] if block.features.ndim == 3 else 1 for block in content.blocks) - 1,
        "view_scale": [],
        "view_seed": 0,
        "imported": {
            "suffix": wish.source.suffix,
            "sha256": digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest(),
            "dtype": str(content.blocks[0].features.dtype),
        },
    }


def _listing(
    wish: ImportRequest, parts: Mapping[Split, SplitArrays], classes: tuple[str, ...], templates: tuple[str, ...]
) -> Listing:
    images = tuple(
        Image(path, class_id, split)
        for split, part in parts.items()
        for path, class_id in zip(part.ids, part.labels.tolist(), strict=True)
    )
    return Listing(images, classes, templates, Origin(wish.dataset, licence="that of the images", home="", citation=""))


def _index(listing: Listing, parts: Mapping[Split, SplitArrays]) -> Index:
    rows = [row.tobytes() for part in parts.values() for row in part.features]
    return Index(
        paths=tuple(image.path for image in listing.images),
        class_ids=np.array([image.class_id for image in listing.images], np.int32),
        splits=tuple(image.split for image in listing.images),
        sizes=np.array([len(row) for row in rows], np.int64),
        sha256=tuple(hashlib.sha256(row).hexdigest() for row in rows),
    )


def _write(
    store: Path, index: Index, parts: Mapping[Split, SplitArrays], facts: Mapping[str, Any], scratch: Path
) -> None:
    starts = {split: int(index.rows(split)[0]) for split in SPLITS if len(index.rows(split))}
    dim = parts["train"].features.shape[-1]
    invalid = {
        path: "invalid where it was imported from"
        for part in parts.values()
        for path, valid in zip(part.ids, part.valid, strict=True)
        if not valid
    }
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch) as folder:
        finished = []
        for shard in plan_shards(index, parts["train"].features.shape[1]):
            first = shard.rows.start - starts[shard.split]
            file = Path(folder) / f"{shard.split}-{shard.number}"
            values = parts[shard.split].features[first : first + len(shard.rows)]
            file.write_bytes(encode_shard(values, chunk_rows(shard.views)))
            finished.append((shard, file))
        write_store(store, index, finished, dim, facts, invalid=invalid)
