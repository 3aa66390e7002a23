"""Read WebDataset's shards: the images of a tar, each with the label that stands beside it."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple

from features.datasets.base import PassedOver
from features.errors import InputError
from features.shards.archives import MAX_IMAGE_BYTES
from features.splits.image_files import IMAGE_SUFFIXES, SYSTEM_FILES, folder_to_pass_over
from features.splits.table_columns import COLUMNS, text_of

MAX_COMPANION_BYTES = 1 << 20  # of a label or its JSON
COMPANIONS = (".cls", ".json")


class Member(NamedTuple):
    """An image of an archive.

    Attributes:
        name: its name, a relative POSIX path without `..`; nothing is ever read or written at that path.
        label: its label; None if the archive gives none.
        split: its split, as the archive writes it.
        group: images of a group stay in one split.
        position: of its first byte in a tar; its row in a table.
        data: its bytes.
    """

    name: str
    label: str | None
    split: str | None
    group: str | None
    position: int
    data: bytes


def members(file: IO[bytes], passed_over: list[PassedOver]) -> Iterator[Member]:
    """Yield the images of a tar in order; the memory does not grow with their number.

    The label of an image is the text of `<key>.cls`, or the key `label` (or another usual name) of `<key>.json`, where
    the key is the image's name up to the first dot, as WebDataset has it; else the folder in which the image lies.

    Args:
        file: The tar.
        passed_over: Gets what is not read, with the reasons.

    Raises:
        InputError: It is no tar, is damaged or truncated.
    """
    try:
        with tarfile.open(fileobj=_Bounded(file), mode="r:") as tar:  # type: ignore[call-overload]
            for _, sample in groupby(_regular(tar, passed_over), key=lambda info: _key(info.name)):
                yield from _images(file, list(sample), passed_over)
            # `tarfile` takes the end of the file for the end of the archive, where it may have been cut off.
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise EOFError("it ends without the mark of its end, so members may be missing")
    except (tarfile.TarError, OSError, ValueError, EOFError, MemoryError) as error:
        raise InputError(f"not a tar, or damaged: {error or type(error).__name__}") from error


class _Bounded:
    """A file that refuses to read more at once than a member may have: headers of a tar claim their own lengths."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_COMPANION_BYTES:
            raise ValueError(f"a header claims {size:,} bytes")
        return self._file.read(size)


def _regular(tar: tarfile.TarFile, passed_over: list[PassedOver]) -> Iterator[tarfile.TarInfo]:
    """Yield the files of a tar that may be read, under clean names."""
    for info in tar:
        tar.members.clear()  # type: ignore[attr-defined]  # which `tarfile` would keep
        if info.isdir():
            continue
        name = clean_name(info.name)
        if not info.isreg() or info.issparse():
            passed_over.append(PassedOver(info.name, "links, devices and sparse files of archives"))
        elif name is None:
            passed_over.append(PassedOver(info.name, "members whose names lead out of the archive"))
        else:
            yield info.replace(name=name, deep=False)


def clean_name(name: str) -> str | None:
    """Return a relative POSIX path without `.` and `..`; None if there is none."""
    path = PurePosixPath(name)
    try:
        name.encode()
    except UnicodeEncodeError:
        return None
    return None if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name else str(path)


def _key(name: str) -> str:
    """Return the key of WebDataset's sample: the name up to the first dot behind the last slash."""
    folder, _, base = name.rpartition("/")
    return f"{folder}/{base.partition('.')[0]}"


def _images(file: IO[bytes], sample: list[tarfile.TarInfo], passed_over: list[PassedOver]) -> Iterator[Member]:
    """Yield the images of neighbours with one key."""
    columns: dict[str, str | None] = {}
    for info in sample:
        suffix = PurePosixPath(info.name).suffix.lower()
        if suffix in COMPANIONS and info.size <= MAX_COMPANION_BYTES:
            columns |= _columns_in(_bytes(file, info), suffix)

    for info in sample:
        path = PurePosixPath(info.name)
        if path.suffix.lower() in COMPANIONS or path.name.lower() in SYSTEM_FILES:
            continue
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            passed_over.append(PassedOver(info.name, "no images by name"))
        elif path.name.startswith("."):
            passed_over.append(PassedOver(info.name, "hidden images"))
        elif reason := next(filter(None, map(folder_to_pass_over, path.parent.parts)), None):
            passed_over.append(PassedOver(info.name, reason))
        elif info.size > MAX_IMAGE_BYTES:
            passed_over.append(PassedOver(info.name, f"members of more than {MAX_IMAGE_BYTES >> 20} MB"))
        else:
            label = columns.get("label") or path.parent.name or None
            yield Member(
                info.name, label, columns.get("split"), columns.get("group"), info.offset_data, _bytes(file, info)
            )


def _columns_in(data: bytes, suffix: str) -> dict[str, str | None]:
    """Return what a companion says, by our names of columns."""
    text = data.decode("utf-8", errors="replace").strip()
    if suffix == ".cls":
        return {"label": text or None}
    try:
        values: Any = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(values, dict):
        return {}
    known = {ours: next((key for key in others if key in values), None) for ours, others in COLUMNS.items()}
    return {ours: text_of(values[key]) for ours, key in known.items() if ours != "path" and key is not None}


def _bytes(file: IO[bytes], info: tarfile.TarInfo) -> bytes:
    file.seek(info.offset_data)  # `tarfile` seeks by itself before it reads the next header
    data = file.read(info.size)
    if len(data) != info.size:
        raise EOFError(f"{info.name} is cut off")
    return bytes(data)
