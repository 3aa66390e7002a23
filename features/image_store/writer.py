"""Lay out a store of image features, and assemble it from shards that were finished one by one.

A shard has about `CROPS_IN_SHARD` crops, for any number of views. This bounds the work that a kill can lose (seconds on
a GPU, half a minute of LiteCLIP and some ten minutes of ViT-B/16 on two cores) and keeps the number of files small.
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
from zarr.codecs import Crc32cCodec
from zarr.core.buffer import Buffer
from zarr.storage import LocalStore, MemoryStore

from features.datasets.base import SPLITS
from features.datasets.base import Split as SplitName
from features.encoding.view_families import crops_of
from features.formats.files import atomic_file, atomic_folder, remove, sha256, write_json
from features.formats.seal import write_sealed_json
from features.image_store.provenance import with_checksum
from features.image_store.store import INVALID, META, Meta
from features.index_table import Index

CHUNKS_IN_SHARD = 8  # a reader of few rows fetches an eighth of a shard
CROPS_IN_SHARD = 4096
IMAGES_WITH_PATCHES = 512  # in a shard that has patch tokens: 100 MB of them for ViT-B/16
FLAT_CHUNK = 1 << 20  # rows of labels and of the mask in one file


@dataclass(frozen=True)
class Shard:
    """Consecutive images of one split that are written together.

    Attributes:
        split: the split.
        number: position among the split's shards.
        rows: positions of the images in the index.
        views: K, crops of an image, the centre crop included.
        key: sha256 of the images' paths and contents; name of the shard's file until the store is written.
    """

    split: SplitName
    number: int
    rows: range
    views: int
    key: str


def chunk_rows(views: int, patches: int = 0) -> int:
    """Return the number of images in a chunk, for K views and P patch tokens each."""
    images = CROPS_IN_SHARD // views
    if patches:
        images = min(images, IMAGES_WITH_PATCHES)
    return max(1, images // CHUNKS_IN_SHARD)


def plan_shards(index: Index, train_views: int, patches: int = 0) -> list[Shard]:
    """Cut the index into shards.

    Args:
        index: the images.
        train_views: K of training images; other images have the centre crop alone.
        patches: P, 0 without patch tokens.
    """
    shards = []
    for split in SPLITS:
        views = train_views if split == "train" else 1
        size = CHUNKS_IN_SHARD * chunk_rows(views, patches)
        positions = index.rows(split)
        for number, start in enumerate(range(0, len(positions), size)):
            # The images of a split are consecutive in the index.
            rows = range(int(positions[start]), int(positions[start]) + len(positions[start : start + size]))
            # By path and content: after an image was replaced, the other shards keep their keys and are reused.
            cut = slice(rows.start, rows.stop)
            key = _digest([(views,), *zip(index.paths[cut], index.sha256[cut], strict=True)])
            shards.append(Shard(split, number, rows, views, key))
    return shards


def index_sha256(index: Index) -> str:
    """Return the sha256 of the images' order, splits, classes, paths and bytes."""
    return _digest(zip(index.splits, index.class_ids.tolist(), index.paths, index.sha256, strict=True))


def _digest(rows: Iterable[tuple[object, ...]]) -> str:
    hasher = hashlib.sha256()
    for row in rows:
        hasher.update(json.dumps(row).encode() + b"\n")
    return hasher.hexdigest()


def shard_files(features: Path) -> tuple[Path, Path, Path]:
    """Return the files of a finished shard in the order in which they are written.

    These are: its skipped images with reasons (JSON), its patch tokens, its features. The first two are optional. The
    features are written last, so their file means that the shard is complete.
    """
    return features.with_name(f"{features.name}.bad.json"), features.with_name(f"{features.name}.patches"), features


def encode_shard(values: NDArray[np.float16], chunk: int) -> bytes:
    """Return the bytes of one shard's file, as Zarr writes it.

    Args:
        values: (n, K, D) features or (n, P, D) patch tokens, of all images of the shard.
        chunk: images in a chunk.
    """
    buffers: dict[str, Buffer] = {}
    array = create_array(MemoryStore(buffers), None, values.shape, np.float16, chunk)
    array[...] = values
    return buffers["c/0/0/0"].to_bytes()


def write_shard(
    features: Path, arrays: Sequence[NDArray[np.float16]], chunk: int, invalid: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Write the files of a finished shard.

    Args:
        features: the file of the features; the others are beside it (`shard_files`).
        arrays: features (n, K, D), and patch tokens (n, P, D) if any.
        chunk: images in a chunk.
        invalid: path -> reason of its images that have no features.

    Raises:
        InputError: the disk is full or the folder cannot be written.
    """
    skipped, patches, _ = shard_files(features)

    # The features mark a complete shard: an old file is removed before anything else changes, the new one comes last.
    remove(features)
    if invalid:
        write_sealed_json(skipped, invalid)
    else:
        remove(skipped)
    for file, values in reversed(list(zip((features, patches), arrays, strict=False))):
        with atomic_file(file) as part:
            part.write_bytes(encode_shard(values, chunk))


def write_store(
    out: Path,
    index: Index,
    shards: Sequence[tuple[Shard, Path]],
    dim: int,
    provenance: Mapping[str, Any],
    *,
    invalid: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Assemble finished shards into a complete store.

    The shards' files stay where they are. The store's files are hard links to them if the file system has these.

    Args:
        out: the store.
        index: all images.
        shards: every shard and the file of its features.
        dim: D.
        provenance: the fields of `Provenance`, and `patches` (P) if there are patch tokens.
        invalid: path -> reason of images without features.

    Raises:
        InputError: the disk is full or the folder cannot be written; shards and an earlier store are untouched.
    """
    patches = int(provenance.get("patches", 0))
    with atomic_folder(out) as part:
        root = LocalStore(part)
        zarr.create_group(root, zarr_format=3)
        for split in SPLITS:
            rows = index.rows(split)
            k = crops_of(int(provenance["views"]), provenance.get("view_families", ())) if split == "train" else 1
            chunk = chunk_rows(k, patches)
            zarr.create_group(root, path=split, zarr_format=3)

            # Only the metadata of the large arrays; their chunks are the shards' files.
            create_array(root, f"{split}/features", (len(rows), k, dim), np.float16, chunk)
            if patches:
                create_array(root, f"{split}/patches", (len(rows), patches, dim), np.float16, chunk)

            _write_array(root, f"{split}/labels", index.class_ids[rows])
            paths = index.paths[rows[0] : rows[-1] + 1] if len(rows) else ()  # they are consecutive
            valid = np.fromiter((path not in invalid for path in paths), np.bool_, len(rows))
            _write_array(root, f"{split}/valid", valid)

        for shard, file in shards:
            _, patch_tokens, _ = shard_files(file)
            arrays = {"features": file} | ({"patches": patch_tokens} if patches else {})
            for name, source in arrays.items():
                _link(source, part / shard.split / name / "c" / str(shard.number) / "0" / "0")

        if invalid:
            write_json(part / INVALID, dict(invalid))

        # Last: `meta.json` lists the checksums of all other files, and a store without it is incomplete.
        meta = {
            "dtype": "float16",
            "dim": dim,
            "classes": int(index.class_ids.max()) + 1,
            "rows": {split: len(index.rows(split)) for split in SPLITS},
            "index_sha256": index_sha256(index),
            "files": _file_records(part),
            **provenance,
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
    """Create an uncompressed array with a checksum and `chunk` rows in a chunk; one of three axes also has shards."""
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
        compressors=Crc32cCodec(),  # a checksum for each chunk, which readers compare
        fill_value=dtype(0),
        zarr_format=3,
        config={"write_empty_chunks": True},  # a chunk of zeros is data (class 0), not absence
    )


def _write_array(store: LocalStore, name: str, values: NDArray[Any]) -> None:
    """Create an array of values (N,), N may be 0, and write it."""
    array = create_array(store, name, values.shape, values.dtype.type)
    if len(values):
        array[...] = values


def _link(source: Path, target: Path) -> None:
    """Make `target`, a chunk of a store's array (n, K or P, D), a hard link to a shard's file, or else a copy."""
    target.parent.mkdir(parents=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def _file_records(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and sha256 of every file, by its path in the folder, as `FileRecord` has them."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in files
    }
