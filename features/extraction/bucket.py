"""Keep finished shards in a bucket, for machines that share no file system.

Each file of a shard is uploaded in one request, so it is in the bucket whole or not at all. The features are uploaded
last: their presence means that the shard is complete. No store is ever assembled in the bucket. The machine that writes
the store copies the shards back first.
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

FILE_SCHEME = "file://"
BUCKET_HINT = (
    "Check that the bucket exists; that the credentials may list, put, get and delete (AWS_PROFILE, or "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; AWS_ENDPOINT_URL if it is not Amazon's); and that the client is "
    "installed (s3: pip install -e '.[s3]'). Or set compute.shards to null. Finished shards are kept"
)


@dataclass(frozen=True)
class Bucket:
    """A folder of a bucket that keeps finished shards.

    Every method raises an `InputError` with the reason if the bucket cannot be used.

    Attributes:
        address: as fsspec writes it, `s3://bucket/prefix`.
    """

    address: str

    def subfolder(self, name: str) -> Bucket:
        """Return the part of the bucket that belongs to one extraction."""
        return Bucket(f"{self.address.rstrip('/')}/{name}")

    def check_access(self) -> None:
        """Put, get and delete a small file, so that missing rights are found before there is work to lose."""
        with self._open() as (files, root):
            name = f"{root}/{secrets.token_hex(8)}"
            files.pipe_file(name, b"shipyard tests its access to this bucket")
            files.cat_file(name)
            files.rm_file(name)

    def put(self, features: Path) -> None:
        """Upload a finished shard; replace an earlier one of the same key."""
        with self._open() as (files, root):
            # The features go first and come last (`shard_files` ends with them), as on disk: without them a shard
            # counts as missing, so a reader never sees a mix of an old and a new shard.
            for file in reversed(shard_files(features)):
                with suppress(FileNotFoundError):
                    files.rm_file(f"{root}/{file.name}")

            for file in shard_files(features):
                if file.exists():
                    files.put_file(str(file), f"{root}/{file.name}")

    def fetch(self, shard_folder: Path, keys: Sequence[str]) -> None:
        """Download the shards of these keys that are in the bucket; replace what the folder has of them."""
        incoming = shard_folder / ".coming"
        with self._open() as (files, root):
            uploaded = {name.rpartition("/")[2] for name in files.find(root)}
            targets = [file for key in keys if key in uploaded for file in shard_files(shard_folder / key)]
            names = [file.name for file in targets if file.name in uploaded]
            if names:
                files.get([f"{root}/{name}" for name in names], [str(incoming / name) for name in names])

            # Downloaded aside, then renamed in the order of `shard_files`, features last: a kill leaves no half shard.
            for file in targets:
                if file.name in uploaded:
                    (incoming / file.name).replace(file)
                else:
                    remove(file)
            remove(incoming)

    def clear(self) -> None:
        """Remove all shards."""
        with self._open() as (files, root), suppress(FileNotFoundError):
            files.rm(root, recursive=True)

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, str]]:
        """Yield the file system, and the path of the address in it."""
        from fsspec.core import url_to_fs

        try:
            # No cache of listings: it would hide what other machines put there since.
            yield url_to_fs(self.address, use_listings_cache=False)
        except Exception as error:  # each kind of bucket has errors of its own
            reason = str(error) or type(error).__name__
            raise InputError(f"compute.shards: cannot use {self.address}: {reason}. {BUCKET_HINT}") from error


def shard_location(address: str | None, scratch: Path) -> tuple[Path, Bucket | None]:
    """Return where finished shards are kept: a folder, and also a bucket if `compute.shards` names one.

    Raises:
        InputError: the address of a folder is relative, and would be another folder on every node.
    """
    if address is None or not address.startswith(FILE_SCHEME):
        return scratch, Bucket(address) if address else None

    folder = Path(address.removeprefix(FILE_SCHEME))
    if not folder.is_absolute():
        raise InputError(f"compute.shards: {address} is not an absolute path; write file:///shared/folder")
    return folder, None
