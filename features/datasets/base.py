"""What a data set is to the pipeline, and the contract of its reader.

One reader a file, found by its file name; it turns what lies on disk into a `Listing` and reads no pixel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import features.datasets
from features.errors import InputError, nearest
from features.lookup import find, names
from features.settings import Settings, parse

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


def heard(name: str) -> str:
    """What is left of a class name once prompts and CLIP's tokenizer have dropped case, `_` and runs of spaces."""
    return " ".join(re.split(r"[\s_]+", name.casefold()))


@dataclass(frozen=True, slots=True)
class Image:
    """One image: its POSIX path relative to the reader's folder, its class's position in `classes`, its split."""

    path: str
    class_id: int
    split: Split


@dataclass(frozen=True, slots=True)
class Counts:
    """How many images and classes the data set's paper states."""

    train: int
    val: int
    test: int
    classes: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a data set comes from. `counts`: the published numbers, which a complete copy must match."""

    title: str
    licence: str
    home: str
    citation: str
    counts: Counts | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """A data set as names and paths.

    Attributes:
        images: in any order; the index orders them.
        classes: C names, verbatim, by class id; a class may have no image (it is only named). `_` for a space is
            kept here: `features.prompts.spoken` is the one place that replaces it.
        templates: hand-crafted prompts, each with one `{}` for the class name.
        origin: licence, home page, citation and expected counts.
        missing: images that the data set names and this copy lacks, left out because the user allowed it.
        repeated_names: names that the official list gives to several classes (ImageNet has two); no others may repeat.
        descriptions: class name -> what templates say after it, of classes that have one.
    """

    images: tuple[Image, ...]
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    origin: Origin
    missing: int = 0
    repeated_names: frozenset[str] = frozenset()
    descriptions: Mapping[str, str] = field(default_factory=dict)


class Reader(Settings):
    """A data set's options in `params.yaml`, and how to read it. A concrete reader adds options with defaults.

    Attributes:
        reader: the name of the reader's file.
        path: the data set's folder under `data.root`.
    """

    reader: str
    path: str

    layout: ClassVar[str]  # what lies in `path`, for the message when it does not
    source: ClassVar[str]  # where a person gets it, for the same message
    images: ClassVar[str] = ""  # the folder inside `path` that image paths are relative to

    def folder(self, root: Path) -> Path:
        """The folder that image paths are relative to.

        Raises:
            InputError: it is not there; the message says what was expected and how to mend it.
        """
        folder = root / self.path / self.images
        if folder.is_dir():
            return folder
        first = next(place for place in (root, root / self.path, folder) if not place.is_dir())
        raise InputError(
            f"there is no folder {first} (data.root is {str(root)!r}, the reader {self.reader!r} looks in {folder}).\n"
            f"  expected: {self.layout}\n"
            f"  fix: set data.root in params.yaml to the folder that holds {self.path!r}; {self.source}"
        )

    def read(self, root: Path) -> Listing:
        """List the data set below `root`, the folder that `data.root` names.

        Raises:
            InputError: what is on disk is not the data set; every mistake is listed.
        """
        raise NotImplementedError


def reader_from(spec: Mapping[str, Any], where: str) -> Reader:
    """The reader that a block of `data.sets` describes; `where` says where the block stands.

    Raises:
        InputError: no or an unknown `reader`, or options that cannot be used.
    """
    name = spec.get("reader")
    if not isinstance(name, str):
        raise InputError(
            f"{where}.reader: {name!r} is not a file in features/datasets/; {nearest('', names(features.datasets))}"
        )
    return parse(find(features.datasets, name, Reader), spec, where)
