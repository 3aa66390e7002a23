"""Read features from the files of their shards at the speed of the disk.

Zarr reads a shard's bytes and then copies each chunk to its place, which takes four times as long as one read. Our
shards are uncompressed and their chunks are in order, so a shard's bytes are its rows and can be read in place. Any
other layout is an error instead of a guess. So only the codecs `bytes` and `crc32c` ever decode a foreign file.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from features.errors import InputError
from features.formats.untrusted import check_claimed_size

ABSENT = 2**64 - 1  # offset and length of a missing chunk in a shard's index (Zarr v3, sharding codec)
CRC_BYTES = 4


def read_features(path: Path, shape: tuple[int, int, int]) -> NDArray[np.float16]:
    """Read the whole array (N, K, D) of a store of this project.

    Raises:
        InputError: the array has another shape, type or layout, or a shard is truncated or not in order.
        OSError: a file cannot be read.
    """
    array: zarr.Array[Any] = zarr.open_array(store=path, mode="r", zarr_format=3)
    if (array.shape, array.dtype) != (shape, np.dtype(np.float16)):
        raise InputError(f"{path} is {array.dtype} {array.shape}, not float16 {shape}")

    rows_in_chunk, rows_in_shard = _layout(array, path)
    out = np.empty(shape, np.float16)
    row_bytes = 2 * math.prod(shape[1:])  # float16

    for number, start in enumerate(range(0, shape[0], rows_in_shard)):
        rows = out[start : start + rows_in_shard]
        chunks = math.ceil(len(rows) / rows_in_chunk)
        file = path / "c" / str(number) / "0" / "0"
        _read_shard(file, rows, chunk_bytes=rows_in_chunk * row_bytes, chunks=chunks, of=rows_in_shard // rows_in_chunk)
    return out


def _layout(array: zarr.Array[Any], path: Path) -> tuple[int, int]:
    """Return the rows of a chunk and of a shard."""
    chunks, shards = array.chunks, array.shards
    if shards is None or not chunks[1:] == shards[1:] == array.shape[1:]:
        raise InputError(
            f"{path} has chunks of {chunks} in shards of {shards}; expected chunks of whole rows in shards"
        )
    check_codecs(array, path)
    return chunks[0], shards[0]


def check_codecs(array: zarr.Array[Any], path: Path) -> None:
    """Check that an array has this project's codecs, so that no other codec ever decodes a foreign file.

    Raises:
        InputError: the array has other codecs; lists them.
    """
    check_claimed_size(
        math.prod(array.shards or array.chunks) * array.dtype.itemsize // 64, path / "zarr.json", "a chunk"
    )
    ours = zarr.create_array(
        MemoryStore(), shape=array.shape, dtype=array.dtype, chunks=array.chunks, shards=array.shards, compressors=None
    )
    codecs, expected = array.metadata.to_dict()["codecs"], ours.metadata.to_dict()["codecs"]
    if codecs != expected:
        raise InputError(f"{path} has the codecs {codecs}; expected {expected}")


def _read_shard(file: Path, rows: NDArray[np.float16], *, chunk_bytes: int, chunks: int, of: int) -> None:
    """Read a shard's file into `rows` (n, K, D).

    Args:
        file: the chunks, then the shard's index, then the index's crc32c.
        rows: filled in place.
        chunk_bytes: size of a chunk.
        chunks: chunks that the shard has; the last shard of an array has fewer than `of`.
        of: chunks of a full shard.
    """
    # Offset and length of each chunk, as the index must hold them if the chunks are in order without gaps.
    entries = [value for chunk in range(chunks) for value in (chunk * chunk_bytes, chunk_bytes)]
    index = struct.pack(f"<{2 * of}Q", *entries, *[ABSENT] * (2 * (of - chunks)))

    with file.open("rb", buffering=0) as opened:
        read = opened.readinto(rows.data.cast("B"))
        # The last chunk is padded to its full size, so the index is not right behind the rows.
        opened.seek(chunks * chunk_bytes)
        if read != rows.nbytes or opened.read(len(index) + CRC_BYTES)[:-CRC_BYTES] != index:
            raise InputError(f"{file} is truncated, or its chunks are not in order")
