"""Digests of files, kept with the files, by which a reader finds bytes that changed at rest.

A file of a format that has a place for text holds its own digest there: HDF5 in its user block, Parquet and safetensors
in their metadata, JSON under a key. The digest is the crc32c of the whole file, with zeros in the place of the digest.
CSV, Markdown and HTML have no such place. Their digests are in the file `.shipyard` of their folder. Chunks of
a feature store have those of Zarr's own codec.

A crc32c finds every change of up to 32 neighbouring bits and misses one of four billion others. It is no defence
against somebody who changes the file and the digest.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from features.errors import InputError
from features.formats.files import MARK, atomic_file, canonical_json, crc32c
from features.formats.untrusted import read_json, wrap_parser_errors

PREFIX = "shipyard-crc32c:"
BLANK = PREFIX + "0" * 8  # stands in a file until the digest is known
KEY = "digest"
REMEDY = "Run `shipyard verify --repair`, which removes damaged files, and then `shipyard run` or `dvc pull`"


def sealed(content: bytes) -> bytearray:
    """Return the content of a file, which holds `BLANK`, with its digest in that place.

    Raises:
        InputError: a text of the content looks like a digest.
    """
    if content.count(PREFIX.encode()) != 1:
        raise InputError(f"a name holds {PREFIX!r}, which marks the digest in a file; choose another name")
    file = bytearray(content)
    seal(memoryview(file), content.index(BLANK.encode()))
    return file


def seal_file(path: Path) -> None:
    """Write the digest of a file, which holds `BLANK`, into that place; the file is not read into memory.

    Raises:
        InputError: a text of the content looks like a digest.
    """
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        at = content.find(PREFIX.encode())
        if content.find(PREFIX.encode(), at + 1) >= 0:
            raise InputError(f"a name holds {PREFIX!r}, which marks the digest in a file; choose another name")
        with memoryview(content) as view:
            seal(view, at)


def seal(content: memoryview, at: int) -> None:
    """Write the digest of a file's content into it, in the place of `BLANK`, which begins at `at`."""
    end = at + len(BLANK)
    content[at:end] = f"{PREFIX}{google_crc32c.value(np.frombuffer(content, np.uint8)):08x}".encode()


def check_seal(path: Path, fix_hint: str) -> None:
    """Check that a file of this project is as it was written.

    Raises:
        InputError: the file does not exist or cannot be read; its bytes have changed; or it holds no digest.
    """
    with wrap_parser_errors(path, fix_hint), _mapped(path) as content:
        at = content.find(PREFIX.encode())
        if at < 0:
            raise InputError(f"{path} holds no digest: it is damaged, or an older version wrote it. {REMEDY}")
        end = at + len(BLANK)

        # In three parts, because the file may be large and a copy would double its memory.
        whole = np.frombuffer(content, np.uint8)
        crc = google_crc32c.value(whole[:at])
        crc = google_crc32c.extend(crc, BLANK.encode())
        crc = google_crc32c.extend(crc, whole[end:])
        del whole  # the map cannot be closed before
        if content[at:end] != f"{PREFIX}{crc:08x}".encode():
            raise InputError(damaged(path))


@contextmanager
def _mapped(path: Path) -> Iterator[bytes | mmap.mmap]:
    """Yield the bytes of a file without reading them into memory."""
    with path.open("rb") as file:
        if not path.stat().st_size:  # nothing can be mapped
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content


def is_sealed(path: Path) -> bool:
    """Return whether a file of this project is as it was written."""
    try:
        check_seal(path, "")
    except InputError:
        return False
    return True


def check_listed(path: Path) -> None:
    """Check that a text file is as it was written, by the list of digests in its folder.

    Raises:
        InputError: the file does not exist or cannot be read; its bytes have changed; or the list does not have it.
    """
    with wrap_parser_errors(path, REMEDY):
        listed = (path.parent / MARK).read_text(encoding="utf-8").splitlines()
        whole = f"{crc32c(path)}  {path.name}" in listed
    if not whole:
        raise InputError(damaged(path))


def damaged(path: Path) -> str:
    """Return the message for a file that is not as it was written."""
    return f"{path} is damaged: its bytes are not those that were written. {REMEDY}"


def write_sealed_json(path: Path, values: Mapping[str, object]) -> None:
    """Write canonical JSON with its digest under the key `digest`, completely or not at all."""
    with atomic_file(path) as part:
        part.write_bytes(sealed_json(values))


def sealed_json(values: Mapping[str, object]) -> bytes:
    """Return canonical JSON with its digest under the key `digest`."""
    return bytes(sealed(canonical_json({KEY: BLANK, **values}).encode()))


def read_sealed_json(path: Path, fix_hint: str) -> dict[str, Any]:
    """Return the values of a file that `write_sealed_json` wrote, without its digest.

    Raises:
        InputError: the file does not exist, or is not as it was written.
    """
    check_seal(path, fix_hint)
    values: dict[str, Any] = read_json(path, fix_hint)
    del values[KEY]
    return values
