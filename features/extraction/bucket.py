"""Finished shards in a bucket, for machines that share no file system.

Each file of a shard is put there in one request, so it is there whole or not at all; the features come last, for they
stand for the rest. No store is put together there: whoever makes it copies the shards back first.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.errors import InputError
from features.formats.files import remove
from features.image_store.writer import shard_files

FOLDER = "file://"
REMEDY = (
    "See that the bucket is there; that the credentials may list, put, get and delete (AWS_PROFILE, or "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; AWS_ENDPOINT_URL where it is not Amazon's); and that its client is "
    "installed (s3: pip install 'shipyard-clip[s3]'). Or set compute.shards to null. Finished shards are kept"
)


@dataclass(frozen=True)
class Bucket:
    """Where finished shards wait for the others.

    Attributes:
        address: as fsspec writes it, `s3://bucket/prefix`.
    """

    address: str

    def of(self, name: str) -> Bucket:
        """The part of it that belongs to one extraction."""
        return Bucket(f"{self.address.rstrip('/')}/{name}")

    def try_out(self) -> None:
        """See that one may put, get and delete, before there is work to lose.

        Raises:
            InputError: here and in all that follows: the bucket cannot be used; says why.
        """
        with self._open() as (files, root):
            name = f"{root}/{secrets.token_hex(8)}"
            files.pipe_file(name, b"to see whether this works")
            files.cat_file(name)
            files.rm_file(name)

    def put(self, features: Path) -> None:
        """Copy a finished shard there, in place of what is there of it."""
        with self._open() as (files, root):
            for file in reversed(shard_files(features)):
                with suppress(FileNotFoundError):
                    files.rm_file(f"{root}/{file.name}")
            for file in shard_files(features):
                if file.exists():
                    files.put_file(str(file), f"{root}/{file.name}")

    def fetch(self, kept: Path, keys: Sequence[str]) -> None:
        """Copy those of the shards that are there to `kept`, in place of what it has of them."""
        coming = kept / ".coming"
        with self._open() as (files, root):
            there = {name.rpartition("/")[2] for name in files.find(root)}
            wanted = [file for key in keys if key in there for file in shard_files(kept / key)]
            names = [file.name for file in wanted if file.name in there]
            if names:
                files.get([f"{root}/{name}" for name in names], [str(coming / name) for name in names])
            for file in wanted:
                if file.name in there:
                    (coming / file.name).replace(file)
                else:
                    remove(file)
            remove(coming)

    def clear(self) -> None:
        """Remove all shards."""
        with self._open() as (files, root), suppress(FileNotFoundError):
            files.rm(root, recursive=True)

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, str]]:
        """The file system, and what it calls the address."""
        from fsspec.core import url_to_fs

        try:
            yield url_to_fs(self.address, use_listings_cache=False)  # what others put since must be seen
        except Exception as error:  # each kind of bucket has errors of its own
            said = str(error) or type(error).__name__
            raise InputError(f"compute.shards: {self.address} cannot be used: {said}. {REMEDY}") from error


def shard_location(address: str | None, scratch: Path) -> tuple[Path, Bucket | None]:
    """Where finished shards wait: a folder, and a bucket as well where `compute.shards` names one.

    Raises:
        InputError: the address of a folder is relative, which is another folder on every node.
    """
    if address is None or not address.startswith(FOLDER):
        return scratch, Bucket(address) if address else None
    if not (folder := Path(address.removeprefix(FOLDER))).is_absolute():
        raise InputError(f"compute.shards: {address} is no whole path: write file:///shared/folder")
    return folder, None
