"""One folder out of a tar or zip archive. Nothing is written outside of it, whatever the archive says."""

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
DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, KeyError, RuntimeError, OSError),
)


CHUNK = 1 << 20  # bytes read at once


class OutsideError(Exception):
    """A member's name leaves the folder that the archive is unpacked into."""


def unpack(archive: Path, inside: str, target: Path) -> None:
    """Make the archive's folder `inside` the folder `target`, whole or not at all.

    Args:
        archive: a tar, compressed or not, or a zip.
        inside: POSIX path of a folder in it; `a/x.tar.gz/y` is `y` in the archive `a/x.tar.gz` in it.
        target: is not there yet.

    Raises:
        InputError: it is no archive or a damaged one, has no such folder, or names a path outside of itself.
    """
    aside = target.with_name(f".{target.name}.unpacking")  # only what is in here is ever written
    try:
        remove(aside)  # of an attempt that was killed
        aside.mkdir(parents=True)
        outer, inner = _nested(inside)
        made = _extract(archive, outer, aside)
        if inner:
            made = _extract(made, inner, aside / "inner")
        made.replace(target)
    finally:
        remove(aside)


def _nested(inside: str) -> tuple[str, str]:
    """`a/x.tar.gz/y` as `a/x.tar.gz` and `y`; a path without an archive in it as itself and nothing."""
    parts = PurePosixPath(inside).parts
    at = next((i for i, part in enumerate(parts[:-1], start=1) if part.endswith(ARCHIVES)), len(parts))
    return "/".join(parts[:at]), "/".join(parts[at:])


def _extract(archive: Path, inside: str, folder: Path) -> Path:
    """Write the member `inside`, a file or a folder with all below it, into `folder`; where it is then."""
    made = folder / PurePosixPath(inside).name
    try:
        if zipfile.is_zipfile(archive):
            _extract_zip(archive, inside, folder)
        else:
            _extract_tar(archive, inside, folder)
    except (tarfile.FilterError, OutsideError) as error:
        raise InputError(f"{archive} names a path outside of itself, so nothing of it is kept: {error}") from error
    except DAMAGED as error:
        raise InputError(f"{archive} cannot be unpacked: {error}; remove it and fetch it again") from error
    if not made.exists():
        raise InputError(f"{archive} holds no {inside!r}; has the file at this address changed?")
    return made


def _extract_tar(archive: Path, inside: str, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            name = _placed(member.name, inside)
            if name is not None:
                tar.extract(member.replace(name=name, deep=False), folder, filter="data")  # links stay inside, too
        while tar.fileobj and tar.fileobj.read(CHUNK):  # to the end, where gzip compares its checksum
            pass


def _extract_zip(archive: Path, inside: str, folder: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            name = _placed(info.filename, inside)
            if name is None or info.is_dir():
                continue
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(info) as source, path.open("wb") as file:  # a link would become a file with its target
                shutil.copyfileobj(source, file)


def _placed(name: str, inside: str) -> str | None:
    """Where a member goes: `x/...` for what is below `.../x`; None for what is elsewhere in the archive.

    Raises:
        OutsideError: the name is absolute or has `..`, on any system; wherever in the archive it is.
    """
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if posix.root or windows.drive or windows.root or ".." in (*posix.parts, *windows.parts):
        raise OutsideError(name)
    folder = PurePosixPath(inside)
    return posix.relative_to(folder.parent).as_posix() if posix.is_relative_to(folder) else None
