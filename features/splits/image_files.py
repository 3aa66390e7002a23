"""Find the images below a folder of a user: one rule for `task new`, the index and `predict`.

A file is an image if its name ends like one. A name that says nothing, such as `IMG_1` or `x.jpg_large`, is judged by
the first bytes of the file. Whatever is passed over is listed with the reason, so that nothing goes missing in silence.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from features.datasets.base import PassedOver
from features.errors import shown
from features.splits.listed import EXTENSIONS

# EXTENSIONS are those of the published data sets; these are the other formats and spellings that the decoder reads.
IMAGE_SUFFIXES = EXTENSIONS | {
    *(".avif", ".dib", ".gif", ".heic", ".heics", ".heif", ".hif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpf", ".jpx"),
    *(".mpo", ".pbm", ".pgm", ".pnm"),
}
# A camera's raw file begins like a TIFF, and its first picture is a thumbnail.
RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw"}
    | {".rw2", ".sr2", ".srw", ".x3f"}
)
UNFINISHED_SUFFIXES = frozenset({".bak", ".crdownload", ".download", ".orig", ".part", ".partial", ".tmp"})
OTHER_SUFFIXES = frozenset(
    {
        ".ai",
        ".cur",
        ".dcm",
        ".dds",
        ".eps",
        ".exr",
        ".hdr",
        ".icns",
        ".ico",
        ".jxl",
        ".pcx",
        ".psd",
        ".svg",
        ".tga",
        ".wdp",
    }
    | {".xcf"}
)
VIDEO_SUFFIXES = frozenset({".3gp", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".webm", ".wmv"})

# Folders that systems and devices put beside a person's files. They hold thumbnails, deleted files and fragments.
SYSTEM_FOLDERS = frozenset(
    {"#recycle", "$recycle.bin", "@eadir", "@recycle", "@recycler", "@__thumb", "__macosx", "__pycache__", "lost+found"}
    | {"system volume information"}
)
SYSTEM_FILES = frozenset(
    {".directory", ".ds_store", ".gitignore", ".gitkeep", ".localized", "desktop.ini", "thumbs.db"}
)

SIGNATURES = (
    rb"\xff\xd8\xff",  # JPEG
    rb"\x89PNG\r\n\x1a\n",
    rb"GIF8[79]a",
    rb"RIFF....WEBP",
    rb"II\*\0|MM\0\*",  # TIFF
    rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3}",  # BMP; `BM` alone also begins texts
    rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",  # JPEG 2000
    rb".{4}ftyp(?:avif|avis|heic|heix|heim|heis|hevc|hevx|mif1|msf1)",
)
SIGNATURE = re.compile(b"|".join(SIGNATURES), re.DOTALL)
SIGNATURE_BYTES = 32

NO_IMAGE = "no images by name or content"
LISTED = 3  # examples in a line


@dataclass
class Found:
    """The content of a folder, each list in the order of the walk.

    Attributes:
        images: POSIX paths of images, relative to the folder.
        folders: POSIX paths of all folders below it that were entered.
        passed_over: what is not read, with the reason; hidden files only if their names are those of images.
    """

    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)


def find_images(folder: Path) -> Found:
    """Return all images below a folder.

    Links are followed, and a folder that can be reached in several ways is entered once: first by its own path, else
    by the first link in alphabetical order. So a loop of links ends.
    """
    found = Found()
    entered: set[tuple[int, int]] = set()
    pending = [""]
    while pending:
        links: list[str] = []
        for path in pending:
            _walk(folder, path, found, entered, links)
        pending = sorted(links)
    return found


def _walk(folder: Path, start: str, found: Found, entered: set[tuple[int, int]], links: list[str]) -> None:
    """Add what lies below the folder `start`; links to folders are only collected."""
    stack = [start]
    while stack:
        path = stack.pop()
        try:
            status = os.stat(f"{folder}/{path}")  # noqa: PTH116 (one call, on a hundred thousand files)
            if (status.st_dev, status.st_ino) in entered:
                found.passed_over.append(PassedOver(path, "links to folders that are read already"))
                continue
            with os.scandir(f"{folder}/{path}") as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            found.passed_over.append(PassedOver(path, f"folders that cannot be opened ({error.strerror})"))
            continue

        entered.add((status.st_dev, status.st_ino))
        if path:
            found.folders.append(path)

        inner = []
        for entry in entries:
            inside = f"{path}/{entry.name}" if path else entry.name
            if not _is_folder(entry):
                _add_file(entry, inside, found)
            elif reason := folder_to_pass_over(entry.name):
                found.passed_over += [PassedOver(file, reason) for file in _named_images(entry, inside)]
            elif entry.is_symlink():
                links.append(inside)
            else:
                inner.append(inside)
        stack += reversed(inner)


def folder_to_pass_over(name: str) -> str | None:
    """Return why the images in a folder of this name are not read; None if they are."""
    if name.startswith("."):
        return "images in hidden folders"
    return "images in folders of the system" if name.lower() in SYSTEM_FOLDERS else None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a folder that may not be searched
        return False


def _add_file(entry: os.DirEntry[str], path: str, found: Found) -> None:
    try:
        reason = _reason_to_pass_over(entry)
    except OSError as error:
        reason = f"files that cannot be opened ({error.strerror})"
    if reason is None:
        found.images.append(path)
    elif reason:
        found.passed_over.append(PassedOver(path, reason))


def _reason_to_pass_over(entry: os.DirEntry[str]) -> str | None:
    """Return why a file is not read; None: it is an image; "": nobody misses it."""
    name = entry.name.lower()
    suffix = os.path.splitext(name)[1]  # noqa: PTH122 (pathlib takes most of the time on a hundred thousand files)
    if name in SYSTEM_FILES:
        return ""
    if name.startswith("."):
        return "hidden images" if suffix in IMAGE_SUFFIXES else ""
    if not entry.is_file():  # reading a pipe might never end
        return "broken links" if entry.is_symlink() else "not regular files"
    if suffix in IMAGE_SUFFIXES:
        return None
    for suffixes, reason in (
        (RAW_SUFFIXES, "raw files of cameras; export them as JPEG or TIFF"),
        (OTHER_SUFFIXES, "images of formats that are not read; export them as JPEG or PNG"),
        (UNFINISHED_SUFFIXES, "unfinished downloads or backups"),
        (VIDEO_SUFFIXES, "videos"),
    ):
        if suffix in suffixes:
            return reason
    with open(entry.path, "rb") as file:  # noqa: PTH123 (as above)
        return None if SIGNATURE.match(file.read(SIGNATURE_BYTES)) else NO_IMAGE


def _named_images(folder: os.DirEntry[str], path: str) -> Iterator[str]:
    """Yield the files below a folder, links excepted, that have names of images."""
    for current, _, files in os.walk(folder.path):
        below = os.path.relpath(current, folder.path)
        prefix = path if below == "." else f"{path}/{below}"
        yield from (f"{prefix}/{file}" for file in files if PurePosixPath(file).suffix.lower() in IMAGE_SUFFIXES)


def passed_over_lines(passed_over: Iterable[PassedOver]) -> Iterator[str]:
    """Yield one line for each reason: how many files, by their first folder, and examples."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for path, reason in passed_over:
        by_reason[reason].append(path)

    for reason, paths in sorted(by_reason.items()):
        places = Counter(path.partition("/")[0] if "/" in path else "." for path in paths)
        counts = ", ".join(f"{count} in {place}" for place, count in places.most_common(LISTED))
        others = f", {len(places) - LISTED} more folders" if len(places) > LISTED else ""
        yield f"passed over {len(paths)}: {reason}: {counts}{others} ({examples(paths)})"


def examples(names: Sequence[str]) -> str:
    """Return the first names, and whether there are more, as text."""
    return ", ".join(map(shown, names[:LISTED])) + (", ..." if len(names) > LISTED else "")
