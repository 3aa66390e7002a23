"""The contract of a data set's reader.

There is one reader per file, found by its file name. It turns the files on disk into a `Listing` and reads no pixels.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

import features.datasets
from features.errors import InputError, Problems, combined_error, nearest
from features.lookup import find, names
from features.settings import Settings, parse
from features.shards.archives import Base

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Rows = dict[Split, list[tuple[str, int]]]  # (image path, label) pairs of each split


def canonical_name(name: str) -> str:
    """Return a class name for equality checks: NFC, case-folded, with `_` and whitespace collapsed to one space.

    Prompts and CLIP's tokenizer ignore these differences, so two names with the same form are the same class.
    """
    return " ".join(re.split(r"[\s_]+", unicodedata.normalize("NFC", name).casefold()))


def is_template(text: str) -> bool:
    """Return whether a text is a prompt: it has one `{}` for the class name, and no other brace."""
    return text.count("{}") == 1 and not re.search(r"[{}]", text.replace("{}", ""))


@dataclass(frozen=True, slots=True)
class Image:
    """One image: its POSIX path relative to the reader's folder, the position of its class in `classes`, its split."""

    path: str
    class_id: int
    split: Split


@dataclass(frozen=True, slots=True)
class Counts:
    """The published numbers of images per split, and of classes."""

    train: int
    val: int
    test: int
    classes: int


@dataclass(frozen=True, slots=True)
class Origin:
    """The source of a data set. `counts` are the published numbers, which a complete copy must match."""

    title: str
    licence: str
    home: str
    citation: str
    counts: Counts | None = None


@dataclass(frozen=True, slots=True)
class Archive:
    """A file that `shipyard data get` downloads and unpacks.

    Attributes:
        url: The official address.
        creates: The folder that it becomes, below `data.root/<path>`. If it exists, nothing is downloaded.
        inside: The folder in the archive that becomes `creates`. `x.tar.gz/y` is the folder `y` of the archive
            `x.tar.gz` in the archive.
        checksum: `md5:...` or `sha256:...` of the file, as published; empty if nobody publishes one.
        into: A folder below `data.root` to use instead of the reader's `path`, for files that several data sets share.
    """

    url: str
    creates: str
    inside: str
    checksum: str = ""
    into: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """A data set as names and paths.

    Attributes:
        images: All images, in any order; the index sorts them. Those in archives are `features.shards.rows.ShardRows`.
        classes: C class names by class id, verbatim. A class may have no image. A `_` for a space is kept; only
            `features.text.prompts` replaces it.
        templates: Hand-crafted prompts, each with one `{}` for the class name.
        origin: Licence, home page, citation and published counts.
        missing: Number of images that the data set has and this copy lacks, if a partial copy is allowed.
        repeated_names: Names that the official list gives to several classes, as ImageNet's does; no others may repeat.
        descriptions: Class name -> the text that templates add after it, for classes that have one.
        left_out: Number of training images that exist but are outside the pool (ImageNet's `pool_per_class`).
        faults: Problems of this copy, one text each. A listing with faults may not be used;
            `features.listing_checks.mistakes` reports them. Images that are missing without permission are in `images`
            nevertheless.
        own: Whether these are a user's own images, whose files may be links and are read as a viewer shows them.
        passed_over: Files and folders of own images that are not read, with the reasons.
        notes: How own images were understood where that is not obvious, one line each.
        drawn: Paths of own images whose split was drawn, not given.
        groups: Path -> the group whose images stay in one split (a subject, a camera, a burst), if known.
        max_pixels: The size, width times height, up to which own images are read; None: `Reading`'s default.
    """

    images: Sequence[Image]
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    origin: Origin
    missing: int = 0
    repeated_names: frozenset[str] = frozenset()
    descriptions: Mapping[str, str] = field(default_factory=dict)
    left_out: int = 0
    faults: tuple[str, ...] = ()
    own: bool = False
    passed_over: tuple[PassedOver, ...] = ()
    notes: tuple[str, ...] = ()
    drawn: frozenset[str] = frozenset()
    groups: Mapping[str, str] = field(default_factory=dict)
    max_pixels: int | None = None


class PassedOver(NamedTuple):
    """A file or folder that is not read: its POSIX path in the reader's folder, and the reason."""

    path: str
    reason: str


class Reader(Settings):
    """A data set's options in `params.yaml`, and the code that reads it. A concrete reader adds options with defaults.

    Attributes:
        reader: The name of the reader's file.
        path: The data set's folder under `data.root`.
    """

    reader: str
    path: str

    layout: ClassVar[str]  # the expected content of `path`, for error messages
    source: ClassVar[str]  # where to get the data, for error messages
    # Folders inside `path`: image paths are relative to the first one that exists.
    images: ClassVar[tuple[str, ...]] = ("",)
    archives: ClassVar[tuple[Archive, ...]] = ()  # downloads of `shipyard data get`; if empty, `source` explains

    def folder(self, root: Path) -> Path:
        """Return the folder that image paths are relative to.

        Raises:
            InputError: There is no such folder; the message gives the expected layout and the fix.
        """
        candidates = [root / self.path / images for images in self.images]
        for candidate in candidates:
            if candidate.is_dir():
                return candidate

        # Name the outermost folder that is missing: this is where the mistake is.
        absolute = Path(self.path).is_absolute()  # then data.root has no part in it
        outer = (root / self.path, *candidates) if absolute else (root, root / self.path, *candidates)
        first = next(folder for folder in outer if not folder.is_dir())
        where = "" if absolute else f"data.root is {str(root)!r}, "
        change = (
            "the data set's `path`" if absolute else f"data.root in params.yaml to the folder that holds {self.path!r}"
        )
        raise InputError(
            f"there is no folder {first} ({where}reader {self.reader!r} needs {candidates[0]}).\n"
            f"  expected: {self.layout}\n"
            f"  fix: set {change}; {self.source}"
        )

    def base(self, root: Path) -> Base:
        """Return `folder`, or the address of a reader whose images are not on this machine."""
        return self.folder(root)

    def read(self, root: Path) -> Listing:
        """List the data set, with every fault of the copy.

        Args:
            root: The folder of `data.root`.

        Raises:
            InputError: Too much is missing to list anything; the message has every fault.
        """
        raise NotImplementedError


Templates = Annotated[tuple[str, ...], Field(strict=False)]  # YAML has lists only


class Published(Reader):
    """Base of the readers of published data sets, which describe them in class attributes.

    Attributes:
        allow_partial: Accept a copy that lacks images. They are left out and counted, and the report marks every
            number.
        templates: Hand-crafted prompts, each with one `{}` for the class name. The defaults are CoOp's
            (trainers/zsclip.py).
    """

    allow_partial: bool = False
    templates: Templates = ("a photo of a {}.",)

    origin: ClassVar[Origin]

    @classmethod
    def published_templates(cls) -> tuple[str, ...]:
        """Return the prompts of the published data set, which params.yaml may replace by others."""
        templates: tuple[str, ...] = cls.model_fields["templates"].default
        return templates

    def unreadable(self, problems: Problems) -> InputError:
        """Return the error for a copy of which nothing can be listed."""
        return combined_error(problems.messages, f"the data set {self.origin.title!r} cannot be read")


def reader_from(spec: Mapping[str, Any], where: str) -> Reader:
    """Create the reader that a block of `data.sets` describes.

    Args:
        spec: The block.
        where: The place of the block, for error messages.

    Raises:
        InputError: `reader` is missing or unknown, or an option is invalid.
    """
    name = spec.get("reader")
    if not isinstance(name, str):
        raise InputError(
            f"{where}.reader: {name!r} is not a file in features/datasets/; {nearest('', names(features.datasets))}"
        )
    return parse(find(features.datasets, name, Reader), spec, where)
