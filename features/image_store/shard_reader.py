"""Features out of their shards' files at the speed of the disk.

Zarr reads a shard's bytes and then copies each chunk to its place, which takes four times as long as one read. Our
shards are uncompressed and their chunks stand in order, so a shard's bytes are its rows: they are read to where they
belong. Any other layout is refused, not guessed at; so nothing but `bytes` and `crc32c` ever decodes what others sent.
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

ABSENT = 2**64 - 1  # offset and length of a chunk that a shard's index says is not there
CRC_BYTES = 4


def read_features(path: Path, shape: tuple[int, int, int]) -> NDArray[np.float16]:
    """The whole array (N, K, D) of a store of ours.

    Raises:
        InputError: it has another shape, type or layout, or a shard is cut short or not in order.
        OSError: a file cannot be read.
    """
    array: zarr.Array[Any] = zarr.open_array(store=path, mode="r", zarr_format=3)
    if (array.shape, array.dtype) != (shape, np.dtype(np.float16)):
        raise InputError(f"{path} is {array.dtype} {array.shape}, not float16 {shape}")
    rows_in_chunk, rows_in_shard = _layout(array, path)
    out = np.empty(shape, np.float16)
    row_bytes = 2 * math.prod(shape[1:])
    for number, start in enumerate(range(0, shape[0], rows_in_shard)):
        rows = out[start : start + rows_in_shard]
        chunks = math.ceil(len(rows) / rows_in_chunk)
        file = path / "c" / str(number) / "0" / "0"
        _read_shard(file, rows, chunk_bytes=rows_in_chunk * row_bytes, chunks=chunks, of=rows_in_shard // rows_in_chunk)
    return out


def _layout(array: zarr.Array[Any], path: Path) -> tuple[int, int]:
    """Rows in a chunk and in a shard."""
    chunks, shards = array.chunks, array.shards
    if shards is None or not chunks[1:] == shards[1:] == array.shape[1:]:
        raise InputError(f"{path} has chunks of {chunks} in shards of {shards}; ours hold whole rows")
    refuse_other_codecs(array, path)
    return chunks[0], shards[0]


def refuse_other_codecs(array: zarr.Array[Any], path: Path) -> None:
    """See that an array is coded as ours are, so that no other codec runs over what others sent.

    Raises:
        InputError: says which codecs it has.
    """
    check_claimed_size(math.prod(array.shards or array.chunks) * array.dtype.itemsize // 64, path / "zarr.json", "a chunk")
    ours = zarr.create_array(
        MemoryStore(), shape=array.shape, dtype=array.dtype, chunks=array.chunks, shards=array.shards, compressors=None
    )
    found, expected = array.metadata.to_dict()["codecs"], ours.metadata.to_dict()["codecs"]
    if found != expected:
        raise InputError(f"{path} is coded by {found}; all that is read is {expected}")


def _read_shard(file: Path, rows: NDArray[np.float16], *, chunk_bytes: int, chunks: int, of: int) -> None:
    places = [part for chunk in range(chunks) for part in (chunk * chunk_bytes, chunk_bytes)]
    index = struct.pack(f"<{2 * of}Q", *places, *[ABSENT] * (2 * (of - chunks)))
    with file.open("rb", buffering=0) as opened:
        read = opened.readinto(rows.data.cast("B"))
        opened.seek(chunks * chunk_bytes)
        if read != rows.nbytes or opened.read(len(index) + CRC_BYTES)[:-CRC_BYTES] != index:
            raise InputError(f"{file} is cut short, or its chunks are not in order")
