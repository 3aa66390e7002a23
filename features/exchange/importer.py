"""Import features that another program computed: write a store, an index and class names, as if extracted here.

The values are kept bit for bit. Nothing is normalized, and float32 becomes float16 only on request.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from features.datasets.base import SPLITS, Image, Listing, Origin, Split
from features.errors import InputError, raise_all
from features.exchange.formats.base import FeatureFile, format_of
from features.exchange.official_split import official_split, only_classes, with_image_paths
from features.exchange.rows import ImportRequest, SplitArrays, split_rows
from features.formats.files import sha256
from features.image_store.provenance import FORMAT
from features.image_store.writer import chunk_rows, encode_shard, plan_shards, write_store
from features.index import save_names
from features.index_table import Index, save_index
from features.listing_checks import mistakes


@dataclass(frozen=True, eq=False)
class Imported:
    """The content of a file of features, ready to be written.

    Attributes:
        splits: The rows of each split.
        listing: Ids, class names and templates.
        provenance: Fields of `features.image_store.provenance.Provenance`.
    """

    splits: Mapping[Split, SplitArrays]
    listing: Listing
    provenance: Mapping[str, Any]


def read_features(request: ImportRequest) -> Imported:
    """Read a file of features, and check that it is complete.

    Raises:
        InputError: The file cannot be read, lacks something that the pipeline needs, or contradicts itself.
    """
    if not request.source.exists():
        raise InputError(f"there is no {request.source}")
    file_format = format_of(request.source)
    content = file_format.read(request.source, request.keys)
    provenance = _provenance(request, content, file_format.files(request.source))

    official = official_split(request.split_of) if request.split_of else None
    if official:
        content = replace(content, classes=official.classes)
        request = replace(request, templates=request.templates or official.templates)

    splits, classes, templates = split_rows(content, request)
    if official:
        splits = with_image_paths(splits, official)
    if request.only:
        splits, classes = only_classes(splits, classes, request.only)
    listing = _listing(request, splits, classes, templates)
    raise_all(list(mistakes(listing)), f"{request.source} cannot be imported")
    return Imported(splits, listing, provenance)


def save_features(imported: Imported, *, store: Path, table: Path, names: Path, scratch: Path) -> None:
    """Write the store, the index's Parquet `table` and its JSON `names`.

    In the index, a row's id takes the place of an image's path, and the bytes and sha256 of its features take the place
    of the image file's. A store and its index can thus be matched.
    """
    index = _index(imported.listing, imported.splits)
    _write(store, index, imported.splits, imported.provenance, scratch)
    save_index(index, table)
    save_names(imported.listing, names)


def _provenance(request: ImportRequest, content: FeatureFile, files: Sequence[Path]) -> dict[str, Any]:
    """Return the provenance that the file states, completed by the options of the user."""
    stated = dict(content.provenance or {})
    options = {"encoder": request.encoder, "weights_sha256": request.weights_sha256}
    problems = [
        f"{key}: the file states {stated[key]!r}, the option {value!r}"
        for key, value in options.items()
        if value and stated.get(key, value) != value
    ]
    problems += [f"--{key.replace('_', '-')}: missing" for key in options if not options[key] and key not in stated]

    provenance = stated | {key: value for key, value in options.items() if value}
    if not problems and not re.fullmatch("[0-9a-f]{64}", str(provenance["weights_sha256"])):
        problems.append(f"{provenance['weights_sha256']!r} is not a sha256, which has 64 digits 0-9a-f")
    raise_all(problems, f"{request.source}: the encoder must be known, so that texts can be compared with the features")

    # An export of this project states everything. For other files the rest is unknown.
    if content.provenance:
        return provenance
    digests = [sha256(file) for file in files]
    return provenance | {
        "format": FORMAT,
        "preprocess": {},
        "precision": "",
        "views": max(block.features.shape[1] if block.features.ndim == 3 else 1 for block in content.blocks) - 1,
        "view_scale": [],
        "view_seed": 0,
        "imported": {
            "suffix": request.source.suffix,
            "sha256": digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest(),
            "dtype": str(content.blocks[0].features.dtype),
        },
    }


def _listing(
    request: ImportRequest,
    splits: Mapping[Split, SplitArrays],
    classes: tuple[str, ...],
    templates: tuple[str, ...],
) -> Listing:
    images = tuple(
        Image(path, class_id, split)
        for split, arrays in splits.items()
        for path, class_id in zip(arrays.ids, arrays.labels.tolist(), strict=True)
    )
    origin = Origin(request.dataset, licence="that of the images", home="", citation="")
    return Listing(images, classes, templates, origin)


def _index(listing: Listing, splits: Mapping[Split, SplitArrays]) -> Index:
    rows = [row.tobytes() for arrays in splits.values() for row in arrays.features]
    return Index(
        paths=tuple(image.path for image in listing.images),
        class_ids=np.array([image.class_id for image in listing.images], np.int32),
        splits=tuple(image.split for image in listing.images),
        sizes=np.array([len(row) for row in rows], np.int64),
        sha256=tuple(hashlib.sha256(row).hexdigest() for row in rows),
    )


def _write(
    store: Path, index: Index, splits: Mapping[Split, SplitArrays], provenance: Mapping[str, Any], scratch: Path
) -> None:
    """Write the store through the same shards as an extraction."""
    first_rows = {split: int(index.rows(split)[0]) for split in SPLITS if len(index.rows(split))}
    dim = splits["train"].features.shape[-1]
    invalid = {
        path: "invalid where it was imported from"
        for arrays in splits.values()
        for path, valid in zip(arrays.ids, arrays.valid, strict=True)
        if not valid
    }

    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch) as folder:
        finished = []
        for shard in plan_shards(index, splits["train"].features.shape[1]):
            # A shard counts rows of the whole index, the arrays those of their split.
            first = shard.rows.start - first_rows[shard.split]
            file = Path(folder) / f"{shard.split}-{shard.number}"
            values = splits[shard.split].features[first : first + len(shard.rows)]
            file.write_bytes(encode_shard(values, chunk_rows(shard.views)))
            finished.append((shard, file))
        write_store(store, index, finished, dim, provenance, invalid=invalid)
