"""Read features from the files of their shards at the speed of the disk.

Zarr reads a shard's bytes and then copies each chunk to its place, which takes four times as long as one read. Our
shards are uncompressed and their chunks are in order, so each chunk can be read in place; its checksum is compared at
the speed of memory. Any other layout is an error instead of a guess. So only the codecs `bytes` and `crc32c` ever
decode a foreign file.
"""

from __future__ import annotations

import io
import math
import struct
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec
from zarr.storage import MemoryStore

from features.errors import InputError
from features.formats.untrusted import check_claimed_size
from features.runtime.cores import cores

ABSENT = 2**64 - 1  # offset and length of a missing chunk in a shard's index (Zarr v3, sharding codec)
CRC_BYTES = 4
MOST_THREADS = 8  # that read at the same time; more wait for the memory


def read_features(path: Path, shape: tuple[int, int, int]) -> NDArray[np.float16]:
    """Read the whole array (N, K, D) of a store of this project.

    Raises:
        InputError: the array has another shape, type or layout, or a shard is truncated or not in order.
        OSError: a file cannot be read.
    """
    array = _open(path, shape)
    rows_in_chunk, rows_in_shard, has_checksums = _layout(array, path)
    out = np.empty(shape, np.float16)

    def read(number: int) -> None:
        rows = out[number * rows_in_shard : (number + 1) * rows_in_shard]
        file = _shard_file(path, number)
        with file.open("rb", buffering=0) as opened:
            if not _read_shard(opened, rows, rows_in_chunk, rows_in_shard // rows_in_chunk, has_checksums):
                raise _damaged(file)

    # Reading and checksums release Python's lock.
    with ThreadPoolExecutor(min(cores(), MOST_THREADS)) as pool:
        deque(pool.map(read, range(-(-shape[0] // rows_in_shard))), maxlen=0)
    return out


def read_rows(path: Path, shape: tuple[int, int, int], rows: NDArray[np.int64]) -> NDArray[np.float16]:
    """Read n rows (n, K, D) of an array (N, K, D), in any order; only chunks that hold one of them are read.

    Raises:
        InputError, OSError: as `read_features`.
        IndexError: there is no such row.
    """
    if len(rows) and not 0 <= rows.min() <= rows.max() < shape[0]:
        raise IndexError(f"rows {rows.min()} to {rows.max()} of {shape[0]}")
    array = _open(path, shape)
    size, in_shard, has_checksums = _layout(array, path)
    out = np.empty((len(rows), *shape[1:]), np.float16)
    chunk = np.empty((size, *shape[1:]), np.float16)
    chunk_bytes = chunk.nbytes + (CRC_BYTES if has_checksums else 0)

    order = np.argsort(rows, kind="stable")
    for wanted in np.split(order, np.flatnonzero(np.diff(rows[order] // size)) + 1):
        if not len(wanted):
            break
        number, first = divmod(int(rows[wanted[0]]) // size * size, in_shard)
        held = min(in_shard, shape[0] - number * in_shard)
        file = _shard_file(path, number)
        with file.open("rb", buffering=0) as opened:
            opened.seek(first // size * chunk_bytes)
            whole = _read_chunk(opened, chunk, has_checksums)
            opened.seek(-(-held // size) * chunk_bytes)
            if not (whole and _has_index(opened, held, chunk_bytes, size, in_shard // size)):
                raise _damaged(file)
        out[wanted] = chunk[rows[wanted] % size]
    return out


def _open(path: Path, shape: tuple[int, int, int]) -> zarr.Array[Any]:
    array: zarr.Array[Any] = zarr.open_array(store=path, mode="r", zarr_format=3)
    if (array.shape, array.dtype) != (shape, np.dtype(np.float16)):
        raise InputError(f"{path} is {array.dtype} {array.shape}, not float16 {shape}")
    return array


def _shard_file(path: Path, number: int) -> Path:
    return path / "c" / str(number) / "0" / "0"


def _damaged(file: Path) -> InputError:
    return InputError(f"{file} is damaged or truncated, or its chunks are not in order")


def is_whole(file: Path, shape: tuple[int, int, int], rows_in_chunk: int, chunks_in_shard: int) -> bool:
    """Return whether a file is a complete shard of an array (N, K, D) float16, by its checksums.

    Args:
        file: the file.
        shape: (n, K, D), that of the shard's rows.
        rows_in_chunk: rows of a chunk.
        chunks_in_shard: chunks of a full shard.
    """
    try:
        with file.open("rb", buffering=0) as opened:
            return _read_shard(opened, np.empty(shape, np.float16), rows_in_chunk, chunks_in_shard, has_checksums=True)
    except OSError:
        return False


def _layout(array: zarr.Array[Any], path: Path) -> tuple[int, int, bool]:
    """Return the rows of a chunk and of a shard, and whether each chunk has a checksum."""
    chunks, shards = array.chunks, array.shards
    if shards is None or not chunks[1:] == shards[1:] == array.shape[1:]:
        raise InputError(
            f"{path} has chunks of {chunks} in shards of {shards}; expected chunks of whole rows in shards"
        )
    return chunks[0], shards[0], check_codecs(array, path)


def check_codecs(array: zarr.Array[Any], path: Path) -> bool:
    """Check that an array has this project's codecs, so that no other codec ever decodes a foreign file.

    Returns:
        Whether each chunk has a checksum. Stores of older versions have none.

    Raises:
        InputError: the array has other codecs; lists them.
    """
    check_claimed_size(
        math.prod(array.shards or array.chunks) * array.dtype.itemsize // 64, path / "zarr.json", "a chunk"
    )
    codecs = array.metadata.to_dict()["codecs"]
    expected, older = (_codecs(array, checksums) for checksums in (True, False))
    if codecs not in (expected, older):
        raise InputError(f"{path} has the codecs {codecs}; expected {expected}")
    return bool(codecs == expected)


def _codecs(array: zarr.Array[Any], checksums: bool) -> Any:
    """Return the codecs that this project gives an array of the same shape."""
    ours = zarr.create_array(
        MemoryStore(),
        shape=array.shape,
        dtype=array.dtype,
        chunks=array.chunks,
        shards=array.shards,
        compressors=Crc32cCodec() if checksums else None,
    )
    return ours.metadata.to_dict()["codecs"]


def _read_shard(
    file: io.RawIOBase, rows: NDArray[np.float16], rows_in_chunk: int, chunks_in_shard: int, has_checksums: bool
) -> bool:
    """Read a shard's file into `rows` (n, K, D), and return whether it is whole.

    Args:
        file: the chunks, each with its crc32c if `has_checksums`, then the shard's index with its own.
        rows: filled in place.
        rows_in_chunk: rows of a chunk.
        chunks_in_shard: chunks of a full shard; the last shard of an array has fewer.
        has_checksums: whether each chunk has a checksum.
    """
    chunk = np.empty((rows_in_chunk, *rows.shape[1:]), np.float16)
    for start in range(0, len(rows), rows_in_chunk):
        part = rows[start : start + rows_in_chunk]
        # The last chunk of an array is padded to its full size.
        if not _read_chunk(file, part if len(part) == rows_in_chunk else chunk, has_checksums):
            return False
        if len(part) < rows_in_chunk:
            part[...] = chunk[: len(part)]
    return _has_index(
        file, len(rows), chunk.nbytes + (CRC_BYTES if has_checksums else 0), rows_in_chunk, chunks_in_shard
    )


def _read_chunk(file: io.RawIOBase, chunk: NDArray[np.float16], has_checksums: bool) -> bool:
    """Read a whole chunk in place, and return whether it is as it was written."""
    data = chunk.reshape(-1).view(np.uint8)
    if file.readinto(data.data) != data.nbytes:
        return False
    return not has_checksums or file.read(CRC_BYTES) == struct.pack("<I", google_crc32c.value(data))


def _has_index(file: io.RawIOBase, rows: int, chunk_bytes: int, rows_in_chunk: int, chunks_in_shard: int) -> bool:
    """Return whether the shard's index comes next, and says that the chunks are in order without gaps."""
    chunks = -(-rows // rows_in_chunk)
    entries = [value for chunk in range(chunks) for value in (chunk * chunk_bytes, chunk_bytes)]
    index = struct.pack(f"<{2 * chunks_in_shard}Q", *entries, *[ABSENT] * (2 * (chunks_in_shard - chunks)))
    return file.read(len(index) + CRC_BYTES) == index + struct.pack("<I", google_crc32c.value(index))
