"""How a store of image features is laid out, and how it is put together from shards that were finished one by one.

A shard holds about `CROPS_IN_SHARD` crops, whatever the number of views: that bounds the work that a kill can undo
(seconds on a GPU, half a minute of LiteCLIP and some ten minutes of ViT-B/16 on two cores) and keeps files few.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import Buffer
from zarr.storage import LocalStore, MemoryStore

from features.datasets.base import SPLITS
from features.datasets.base import Split as SplitName
from features.formats.files import atomic_file, atomic_folder, remove, sha256, write_json
from features.image_store.provenance import with_checksum
from features.image_store.store import INVALID, META, Meta
from features.index import Index

CHUNKS_IN_SHARD = 8  # a reader that wants few rows fetches an eighth of a shard
CROPS_IN_SHARD = 4096
IMAGES_WITH_PATCHES = 512  # in a shard that has patch tokens: 100 MB of them for ViT-B/16
FLAT_CHUNK = 1 << 20  # rows of labels and of the mask in one file


@dataclass(frozen=True)
class Shard:
    """Consecutive images of one split that are written together.

    Attributes:
        split, number: which shard. rows: positions in the index. views: K. key: sha256 of what the images are.
    """

    split: SplitName
    number: int
    rows: range
    views: int
    key: str


def chunk_rows(views: int, patches: int = 0) -> int:
    """Images in a chunk, of K views and P patch tokens each."""
    images = CROPS_IN_SHARD // views
    return max(1, (min(images, IMAGES_WITH_PATCHES) if patches else images) // CHUNKS_IN_SHARD)


def plan_shards(index: Index, train_views: int, patches: int = 0) -> list[Shard]:
    """Cut the index into shards; `patches` is P, 0 without patch tokens.

    A shard's key names its images by path and content, so that those that an exchanged or removed image leaves as they
    were need not be computed again.
    """
    shards = []
    for split in SPLITS:
        views = train_views if split == "train" else 1
        size = CHUNKS_IN_SHARD * chunk_rows(views, patches)
        positions = index.rows(split)
        for number, start in enumerate(range(0, len(positions), size)):
            rows = range(int(positions[start]), int(positions[start]) + len(positions[start : start + size]))
            key = _digest([(views,), *((index.paths[row], index.sha256[row]) for row in rows)])
            shards.append(Shard(split, number, rows, views, key))
    return shards


def index_sha256(index: Index) -> str:
    """Identity of the images: their order, splits, classes, paths and bytes."""
    return _digest(zip(index.splits, index.class_ids.tolist(), index.paths, index.sha256, strict=True))


def _digest(rows: Iterable[tuple[object, ...]]) -> str:
    hasher = hashlib.sha256()
    for row in rows:
        hasher.update(json.dumps(row).encode() + b"\n")
    return hasher.hexdigest()


def shard_files(features: Path) -> tuple[Path, Path, Path]:
    """The files of a finished shard, as they are written: its invalid images and why (JSON), patch tokens, features.

    The first two are there where there is something to say; the last stands for all.
    """
    return features.with_name(f"{features.name}.bad.json"), features.with_name(f"{features.name}.patches"), features


def encode_shard(values: NDArray[np.float16], chunk: int) -> bytes:
    """The bytes of one shard's file.

    Args:
        values: (n, K, D) features or (n, P, D) patch tokens, of all images of the shard.
        chunk: images in a chunk.
    """
    held: dict[str, Buffer] = {}
    array = create_array(MemoryStore(held), None, values.shape, np.float16, chunk)
    array[...] = values
    return held["c/0/0/0"].to_bytes()


def write_shard(
    features: Path, arrays: Sequence[NDArray[np.float16]], chunk: int, invalid: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Write a finished shard's files; the features go first and come last, for they say that all is there.

    Args:
        features: where these go.
        arrays: features (n, K, D), and patch tokens (n, P, D) if any.
        chunk: images in a chunk.
        invalid: path -> reason of its images that have no features.

    Raises:
        InputError: the disk is full or the folder cannot be written.
    """
    said, patches, _ = shard_files(features)
    remove(features)
    if invalid:
        write_json(said, dict(invalid))
    else:
        remove(said)
    for file, values in reversed(list(zip((features, patches), arrays, strict=False))):
        with atomic_file(file) as part:
            part.write_bytes(encode_shard(values, chunk))


def write_store(
    out: Path,
    index: Index,
    shards: Sequence[tuple[Shard, Path]],
    dim: int,
    facts: Mapping[str, Any],
    *,
    invalid: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Put finished shards together to a whole store; `facts` are `Meta`'s fields that only the caller knows.

    The shards' files stay where they are: where the file system can, the store's are further names of them.
    `invalid` says, by path, why an image has no features.

    Raises:
        InputError: the disk is full or the folder cannot be written; nothing is lost.
    """
    patches = int(facts.get("patches", 0))
    with atomic_folder(out) as part:
        root = LocalStore(part)
        zarr.create_group(root, zarr_format=3)
        for split in SPLITS:
            rows = index.rows(split)
            k = 1 + int(facts["views"]) if split == "train" else 1
            chunk = chunk_rows(k, patches)
            zarr.create_group(root, path=split, zarr_format=3)
            create_array(root, f"{split}/features", (len(rows), k, dim), np.float16, chunk)
            if patches:
                create_array(root, f"{split}/patches", (len(rows), patches, dim), np.float16, chunk)
            _fill(root, f"{split}/labels", index.class_ids[rows])
            _fill(root, f"{split}/valid", np.array([index.paths[row] not in invalid for row in rows], np.bool_))
        for shard, file in shards:
            _, patch_tokens, _ = shard_files(file)
            arrays = {"features": file} | ({"patches": patch_tokens} if patches else {})
            for name, source in arrays.items():
                _link(source, part / shard.split / name / "c" / str(shard.number) / "0" / "0")
        if invalid:
            write_json(part / INVALID, dict(invalid))
        meta = {
            "dtype": "float16",
            "dim": dim,
            "classes": int(index.class_ids.max()) + 1,
            "rows": {split: len(index.rows(split)) for split in SPLITS},
            "index_sha256": index_sha256(index),
            "files": _file_facts(part),
            **facts,
        }
        Meta.model_validate(meta)
        (part / META).write_text(with_checksum(meta), encoding="utf-8")


def create_array(
    store: LocalStore | MemoryStore,
    name: str | None,
    shape: tuple[int, ...],
    dtype: type[np.generic],
    chunk: int = FLAT_CHUNK,
) -> zarr.Array[Any]:
    """An uncompressed array of `chunk` images a chunk; three axes in shards of chunks, flat arrays in chunks alone."""
    if len(shape) == 3:
        chunks: tuple[int, ...] = (chunk, *shape[1:])
        shards: tuple[int, ...] | None = (CHUNKS_IN_SHARD * chunk, *shape[1:])
    else:
        chunks, shards = (min(max(shape[0], 1), chunk),), None
    return zarr.create_array(
        store,
        name=name,
        shape=shape,
        dtype=np.dtype(dtype),
        chunks=chunks,
        shards=shards,
        compressors=None,
        fill_value=dtype(0),
        zarr_format=3,
        config={"write_empty_chunks": True},  # a class 0 alone in its chunk is data, not absence
    )


def _fill(store: LocalStore, name: str, values: NDArray[Any]) -> None:
    array = create_array(store, name, values.shape, values.dtype.type)
    if len(values):
        array[...] = values


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def _file_facts(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in files
    }
