"""Fetch a data set: download its archives, check them, and unpack them where its reader looks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from features.datasets.base import Archive, Reader
from features.errors import InputError
from features.fetching.download import Show, download, first_checksum, verify
from features.fetching.unpack import unpack

DOWNLOADS = ".downloads"  # below data.root: unfinished archives, and checksums where none is published


def fetch(reader: Reader, root: Path, log: Callable[[str], None], show: Show = lambda *_: None) -> None:
    """Fetch all archives of a data set that are not unpacked yet.

    Args:
        reader: The data set.
        root: The folder of `data.root`.
        log: Receives one line per step.
        show: Progress callback of a download.

    Raises:
        InputError: The data set needs manual steps, which the message explains; or a download or an archive is wrong.
            Archives that are complete are kept.
    """
    if not reader.archives:
        raise InputError(f"{reader.reader} cannot be fetched automatically: {reader.source}")
    for archive in reader.archives:
        target = target_folder(archive, reader, root)
        if target.exists():
            log(f"{target} exists already")
        else:
            _fetch_archive(archive, target, root, log, show)


def _fetch_archive(archive: Archive, target: Path, root: Path, log: Callable[[str], None], show: Show) -> None:
    file = root / DOWNLOADS / Path(urlsplit(archive.url).path).name

    # The file may have been put there by the user, or by a call that was interrupted while it unpacked.
    existed = file.is_file()
    if existed:
        _verify_existing(file, archive)
    else:
        detail = "" if archive.checksum else "; no checksum is published, so that of this download is kept"
        log(f"fetching {archive.url}{detail}")
        download(archive.url, file, archive.checksum, show)

    log(f"unpacking {file} to {target}")
    try:
        unpack(file, archive.inside, target)
    except InputError:
        # The user will replace this file by another one, which has another checksum.
        first_checksum(file).unlink(missing_ok=True)
        raise

    if existed:
        log(f"{file} existed before and is kept; delete it when you no longer need it")
    else:
        file.unlink()


def _verify_existing(file: Path, archive: Archive) -> None:
    try:
        verify(file, archive.checksum, first_checksum(file))
    except InputError as error:
        raise InputError(f"{file} is not the file of {archive.url}: {error}; delete it and fetch it again") from error


def target_folder(archive: Archive, reader: Reader, root: Path) -> Path:
    """Return the folder that the archive becomes."""
    return root / (reader.path if archive.into is None else archive.into) / archive.creates
