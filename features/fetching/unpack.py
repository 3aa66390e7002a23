"""Unpack one folder of a tar or zip archive, and never write outside of the target, whatever names the archive has.

An archive may be inside another one, which pooch and torchvision cannot unpack.
"""

from __future__ import annotations

import lzma
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from features.errors import InputError
from features.formats.files import remove

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
# Exceptions of tarfile, zipfile and the decompressors on a damaged archive.
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    KeyError,
    RuntimeError,
    OSError,
)
CHUNK = 1 << 20  # bytes per read


class OutsideError(Exception):
    """The error for a member whose name leads out of the target folder."""


def unpack(archive: Path, inside: str, target: Path) -> None:
    """Unpack the archive's folder `inside` as the folder `target`, completely or not at all.

    Args:
        archive: A tar, compressed or not, or a zip.
        inside: The POSIX path of a folder in it. `a/x.tar.gz/y` is the folder `y` of the archive `a/x.tar.gz` in it.
        target: The folder to create; it does not exist yet.

    Raises:
        InputError: The file is not an archive, is damaged, has no such folder, or has a member outside of itself.
    """
    outer, inner = _split_nested(inside)
    scratch = target.with_name(f".{target.name}.unpacking")  # everything is written below this folder
    try:
        remove(scratch)  # of an earlier call that was killed
        scratch.mkdir(parents=True)
        extracted = _extract(archive, outer, scratch)
        if inner:
            extracted = _extract(extracted, inner, scratch / "inner")
        extracted.replace(target)
    finally:
        remove(scratch)


def _split_nested(inside: str) -> tuple[str, str]:
    """Split `a/x.tar.gz/y` into `a/x.tar.gz` and `y`; for a path without an archive, the second part is empty."""
    parts = PurePosixPath(inside).parts
    for i, part in enumerate(parts[:-1], start=1):
        if part.endswith(ARCHIVES):
            return "/".join(parts[:i]), "/".join(parts[i:])
    return inside, ""


def _extract(archive: Path, inside: str, folder: Path) -> Path:
    """Write the member `inside`, a file or a whole folder, into `folder`, and return its path."""
    target = folder / PurePosixPath(inside).name
    try:
        if zipfile.is_zipfile(archive):
            _extract_zip(archive, inside, folder)
        else:
            _extract_tar(archive, inside, folder)
    except (tarfile.FilterError, OutsideError) as error:
        raise InputError(f"{archive} has a member outside of its folder, so nothing is unpacked: {error}") from error
    except DAMAGED as error:
        raise InputError(f"{archive} cannot be unpacked: {error}; delete it and fetch it again") from error
    if not target.exists():
        raise InputError(f"{archive} has no member {inside!r}; the file at this address may have changed")
    return target


def _extract_tar(archive: Path, inside: str, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            name = _relative_name(member.name, inside)
            if name is not None:
                # This filter rejects devices, and links that lead out of the folder.
                tar.extract(member.replace(name=name, deep=False), folder, filter="data")

        # Read to the end of the file, where gzip compares its checksum.
        while tar.fileobj and tar.fileobj.read(CHUNK):
            pass


def _extract_zip(archive: Path, inside: str, folder: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            name = _relative_name(info.filename, inside)
            if name is None or info.is_dir():
                continue
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # A symbolic link in a zip becomes a plain file that holds its target.
            with opened.open(info) as source, path.open("wb") as file:
                shutil.copyfileobj(source, file)


def _relative_name(name: str, inside: str) -> str | None:
    """Return the path to unpack a member to: `x/...` for a member of `inside`, here `.../x`; None for other members.

    Raises:
        OutsideError: The name is absolute or has `..`, on POSIX or on Windows. All members are checked.
    """
    posix = PurePosixPath(name)
    windows = PureWindowsPath(name)
    if posix.root or windows.drive or windows.root or ".." in (*posix.parts, *windows.parts):
        raise OutsideError(name)
    folder = PurePosixPath(inside)
    return posix.relative_to(folder.parent).as_posix() if posix.is_relative_to(folder) else None
