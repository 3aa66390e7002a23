"""Bring a data set below `data.root`: fetch its archives, check them, and put them where its reader looks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from features.datasets.base import Archive, Reader
from features.errors import InputError
from features.fetching.download import Show, download, first_checksum, verify
from features.fetching.unpack import unpack

DOWNLOADS = ".downloads"  # below data.root: archives on their way, and checksums of those that have none published


def fetch(reader: Reader, root: Path, say: Callable[[str], None], show: Show = lambda *_: None) -> None:
    """Fetch all archives of a data set that are not unpacked yet.

    Raises:
        InputError: it cannot be fetched without a person, when the text says what to do; or a download or an archive
            is not what it should be. What is complete stays.
    """
    if not reader.archives:
        raise InputError(f"{reader.reader} cannot be fetched by a program: {reader.source}")
    for archive in reader.archives:
        target = place(archive, reader, root)
        if target.exists():
            say(f"{target} is there")
            continue
        file = root / DOWNLOADS / Path(urlsplit(archive.url).path).name
        fetched = not file.is_file()
        if not fetched:  # put there by hand, or by a call that was ended while it unpacked
            _verify(file, archive)
        else:
            known = "" if archive.checksum else "; nobody publishes its checksum, so that of this download is kept"
            say(f"fetching {archive.url}{known}")
            download(archive.url, file, archive.checksum, show)
        say(f"unpacking {file} to {target}")
        try:
            unpack(file, archive.inside, target)
        except InputError:
            first_checksum(file).unlink(missing_ok=True)  # the file that replaces this one is another one
            raise
        if fetched:
            file.unlink()
        else:
            say(f"{file} was there before and is kept; remove it when you no longer need it")


def _verify(file: Path, archive: Archive) -> None:
    try:
        verify(file, archive.checksum, first_checksum(file))
    except InputError as error:
        raise InputError(
            f"{file} is not what {archive.url} should be: {error}; remove it and fetch it again"
        ) from error


def place(archive: Archive, reader: Reader, root: Path) -> Path:
    """What the archive becomes."""
    return root / (reader.path if archive.into is None else archive.into) / archive.creates
