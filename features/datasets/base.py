"""What a data set is to the pipeline, and the contract of its reader.

One reader a file, found by its file name; it turns what lies on disk into a `Listing` and reads no pixel.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import features.datasets
from features.errors import InputError, Problems, combined_error, nearest
from features.lookup import find, names
from features.settings import Settings, parse

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Rows = dict[Split, list[tuple[str, int]]]  # for each split, its (image path, label) pairs


def canonical_name(name: str) -> str:
    """What is left of a class name once prompts and CLIP's tokenizer have dropped case, `_`, spaces, accents' forms."""
    return " ".join(re.split(r"[\s_]+", unicodedata.normalize("NFC", name).casefold()))


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
class Archive:
    """A file that `shipyard data get` fetches.

    Attributes:
        url: the official address.
        creates: what it becomes, below `data.root/<path>`; where that is there, it is not fetched again.
        inside: the archive's folder that becomes `creates`; `x.tar.gz/y` is `y` in the archive `x.tar.gz` in it.
        checksum: `md5:...` or `sha256:...` of the file, as published; empty where nobody publishes one.
        into: a folder below `data.root` instead of the reader's own `path`, for what several data sets share.
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
        images: in any order; the index orders them.
        classes: C names, verbatim, by class id; a class may have no image (it is only named). `_` for a space is
            kept here: `features.text.prompts.prompt_text` is the one place that replaces it.
        templates: hand-crafted prompts, each with one `{}` for the class name.
        origin: licence, home page, citation and expected counts.
        missing: images that the data set names and this copy lacks, left out because the user allowed it.
        repeated_names: names that the official list gives to several classes (ImageNet has two); no others may repeat.
        descriptions: class name -> what templates say after it, of classes that have one.
        left_out: training images that are here but not in the pool that is drawn from (ImageNet's `pool_per_class`).
        faults: what is wrong with this copy, an entry each; with any, nothing may be done but tell all of them, as
            `features.index.mistakes` does. Images that are missing and may not be are in `images` all the same.
    """

    images: tuple[Image, ...]
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    origin: Origin
    missing: int = 0
    repeated_names: frozenset[str] = frozenset()
    descriptions: Mapping[str, str] = field(default_factory=dict)
    left_out: int = 0
    faults: tuple[str, ...] = ()


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
    # Folders inside `path`: image paths are relative to the first that is there.
    images: ClassVar[tuple[str, ...]] = ("",)
    archives: ClassVar[tuple[Archive, ...]] = ()  # what `shipyard data get` fetches; none: `source` says what to do

    def folder(self, root: Path) -> Path:
        """The folder that image paths are relative to.

        Raises:
            InputError: it is not there; the message says what was expected and how to mend it.
        """
        places = [root / self.path / images for images in self.images]
        for place in places:
            if place.is_dir():
                return place
        first = next(place for place in (root, root / self.path, *places) if not place.is_dir())
        raise InputError(
            f"there is no folder {first} (data.root is {str(root)!r}, reader {self.reader!r} looks in {places[0]}).\n"
            f"  expected: {self.layout}\n"
            f"  fix: set data.root in params.yaml to the folder that holds {self.path!r}; {self.source}"
        )

    def read(self, root: Path) -> Listing:
        """List the data set below `root`, the folder that `data.root` names, and what is wrong with it.

        Raises:
            InputError: so much is missing that nothing can be listed; every fault that was found is.
        """
        raise NotImplementedError


class Published(Reader):
    """Base of the readers of data sets that a paper describes: what they are is class data.

    Attributes:
        allow_partial: use a copy that lacks images; they are left out and counted, and the report marks every number.
    """

    allow_partial: bool = False

    templates: ClassVar[tuple[str, ...]] = ("a photo of a {}.",)  # CoOp's, trainers/zsclip.py
    origin: ClassVar[Origin]

    def unreadable(self, problems: Problems) -> InputError:
        """Return the error for a copy of which nothing can be listed."""
        return combined_error(problems.messages, f"the data set {self.origin.title!r} cannot be read")


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
