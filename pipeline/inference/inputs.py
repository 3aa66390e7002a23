"""The images that the arguments of `shipyard predict` name, and how each of them is read."""

from __future__ import annotations

import glob
import os
import stat
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from features.datasets.base import PassedOver
from features.encoding.images import Reading, UnreadableImageError, decode, read_image
from features.errors import InputError, raise_all
from features.shards.archives import SUFFIXES, Base, archives_named, find_archives, is_address
from features.shards.source import ImageRef, ImageSource, Place
from features.splits.image_files import find_images


@dataclass(frozen=True)
class Inputs:
    """Images to classify.

    Attributes:
        paths: in order, as the user typed them; a member of an archive is called `<archive>/<member>`.
        passed_over: what is not an image, in folders and archives.
        places: path -> the base of its archive and its place there, for members of archives.
    """

    paths: list[str] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)
    places: dict[str, tuple[Base, ImageRef]] = field(default_factory=dict)
    _sources: threading.local = field(default_factory=threading.local)

    @property
    def files(self) -> list[str]:
        """The files that hold the images."""
        archives = {f"{base}/{ref.place.archive}" for base, ref in self.places.values() if ref.place}
        return [*(path for path in self.paths if path not in self.places), *sorted(archives)]

    def read(self, path: str, reading: Reading) -> Image.Image:
        """Return the pixels of an image; several threads may call this.

        Raises:
            UnreadableImageError: it cannot be read.
        """
        if path not in self.places:
            if _may_wait(path):
                raise UnreadableImageError("a pipe, not a file")
            return read_image(Path(path), reading)

        base, ref = self.places[path]
        source = self._sources.__dict__.setdefault(str(base), ImageSource(base))
        (data,) = source.read([ref])
        if isinstance(data, str):
            raise UnreadableImageError(data)
        return decode(data, reading)


def _may_wait(path: str) -> bool:
    """Return whether a path is a pipe that perhaps nobody writes to; those of a shell are below /dev."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode) and not path.startswith("/dev/")  # noqa: PTH116
    except (OSError, ValueError):  # reading it says what is wrong
        return False


def expand(arguments: Iterable[str], lines: Iterable[str]) -> Inputs:
    """Return every image that the arguments of `predict` denote, in order.

    An argument is a file, a folder (all images below it), a glob pattern, `-` (one path per line of `lines`), or what
    `task new --images` takes as archives: a tar, a table, a pattern of these, an address, or a folder of them. A file
    given by its path is kept even if it is not an image, so that it is reported as unreadable. A path that is given
    twice is kept twice, so that the rows of a table match those of its input.

    Raises:
        InputError: an archive cannot be read.
    """
    inputs = Inputs()
    for path in arguments:
        if path == "-":
            inputs.paths.extend(line.rstrip("\r\n") for line in lines if line.strip())
        elif path.endswith(SUFFIXES) or is_address(path):
            if not _add_archives(inputs, path):
                raise InputError(f"{path} has no column of images")
        elif not os.path.exists(path) and glob.has_magic(path):  # noqa: PTH110
            matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207
            parents = {os.path.dirname(match.rstrip("/")) for match in matches}  # noqa: PTH120
            for match in matches:  # of a folder as of `**`, what lies below it matches, too
                if not (os.path.isdir(match) and match.rstrip("/") in parents):  # noqa: PTH112
                    _add_path(inputs, match)
        else:
            _add_path(inputs, path)
    return inputs


def _add_path(inputs: Inputs, path: str) -> None:
    """Add a file, or all images below a folder."""
    if os.path.isdir(path):  # noqa: PTH112 (paths stay as the user typed them)
        found = find_images(Path(path))
        if found.images or not _add_archives(inputs, path):
            inputs.paths.extend(sorted(str(Path(path) / file) for file in found.images))
            inputs.passed_over.extend(found.passed_over)
    else:
        inputs.paths.append(path)


def _add_archives(inputs: Inputs, text: str) -> bool:
    """Add the members of the archives that a person names; return False if the text names none."""
    from features.shards.rows import batches, paths  # noqa: PLC0415 (Arrow, which files do not need)
    from features.shards.scan import scan_all  # noqa: PLC0415
    from features.shards.tables import holds_images  # noqa: PLC0415

    named = archives_named(text, holds_images)
    if named is None:
        return False
    base, pattern = named
    archives, faults = find_archives(base, pattern)
    scans, unreadable = scan_all(base, archives, text)
    raise_all([*faults, *unreadable], "archives cannot be read; download or write them again")

    for scan in scans:
        inputs.passed_over.extend(scan.passed_over())
    repeated: list[str] = []
    for scan, batch in batches(scans, ["member", "position", "bytes", "sha256"]):
        columns = (batch.column(name).to_pylist() for name in ("position", "bytes", "sha256"))
        for path, position, size, sha256 in zip(paths(scan, batch, "shard"), *columns, strict=True):
            ref = ImageRef(path, size, sha256, Place(scan.archive.name, position))
            name = f"{base}/{path}"
            inputs.paths.append(name)
            if inputs.places.setdefault(name, (base, ref))[1] != ref:
                repeated.append(name)
    raise_all(repeated, "several images of an archive have the same name; rename these")
    return True
