"""`shipyard task new`: turn the user's images and a list of class names into a data set and a task."""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from ruamel.yaml import YAML

from features.datasets.base import SPLITS, Listing, reader_from
from features.errors import InputError, Problems, are, combined_error, counted
from features.formats.files import atomic_file
from features.listing_checks import mistakes
from features.shards.archives import Base, is_address
from features.splits.class_names import read_names
from features.splits.image_files import Found, find_images, passed_over_lines
from features.splits.own_images import NAMES
from pipeline.cli.check import Blocks, learners
from pipeline.cli.check_encoder import prompt_room
from pipeline.cli.dataset_block import common_options, dataset_block, in_archives, shards_block
from pipeline.config import overrides, params
from pipeline.protocols.base import ClassCounts
from pipeline.protocols.own_images import OwnImages

PROTOCOL = OwnImages(protocol="own_images")
MAX_LISTED = 10  # class names in a note
SIMILAR = 0.85  # of two names that may be one, as `kestrel` and `kestrels`
HEADER = "# Classes of {name} without training images, one name per line. To add a class, add a line.\n"
ClassFrom = Literal["first", "last"]


@dataclass(frozen=True)
class NewTask:
    """Arguments of `shipyard task new`.

    Attributes:
        name: name of the data set and of its task.
        images: a folder with one folder per class, a CSV or Parquet table with the columns path, label and,
            optionally, split; or archives of images, as `features.shards.archives.archives_named` understands them.
        unseen: a file with the names of classes without training images, one per line; None: there are none.
        templates: hand-crafted prompts; empty: those of the reader.
        shots: training images of each seen class; None: all.
        aliases: a CSV file with the columns label and name.
        descriptions: a CSV file with the columns name and description.
        split_seed: seed of the random split.
        class_from: which folder names an image's class; None: the first, and folders that hold only folders are an
            error, because the classes may be one level deeper.
        max_pixels: the size, width times height, up to which an image is read; None: that of the reader.
    """

    name: str
    images: Path | str
    unseen: Path | None = None
    templates: tuple[str, ...] = ()
    shots: int | None = None
    aliases: Path | None = None
    descriptions: Path | None = None
    split_seed: int = 0
    class_from: ClassFrom | None = None
    max_pixels: int | None = None


@dataclass(frozen=True)
class PreparedTask:
    """A task that can be written: the result of `prepare`.

    Attributes:
        listing: the images and classes.
        names: the file with the names of unseen classes.
        names_text: its text; None: the file is what the user passed, and stays as it is.
        params_text: the text of params.yaml with the task.
        absolute: whether params.yaml has the absolute path of the images.
        folder: the folder that the paths of the images are relative to.
    """

    listing: Listing
    names: Path
    names_text: str | None
    params_text: str
    absolute: bool
    folder: Base

    def write(self) -> None:
        """Write the file of class names and `params.yaml`."""
        # params.yaml last: an interruption leaves at most a file of names, which the same command accepts.
        if self.names_text is not None:
            with atomic_file(self.names) as part:
                part.write_text(self.names_text, encoding="utf-8")
        params.write(self.params_text, params.PATH.resolve())  # a link stays one


def prepare(new: NewTask) -> PreparedTask:
    """Validate all inputs; write nothing.

    Raises:
        InputError: lists every problem of the name, the images, the class names and the other files.
    """
    text = params.read()
    settings = params.parse_text(text)
    root = Path(settings.data.root)
    problems = Problems()

    folder = Path(new.images)
    found = find_images(folder) if not is_address(str(new.images)) and folder.is_dir() else Found()
    archives = problems.attempt(partial(in_archives, str(new.images), found))
    block = shards_block(new, *archives, root, problems) if archives else dataset_block(new, found, root, problems)
    spec = block.options | common_options(new, problems)
    given = problems.attempt(partial(read_names, new.unseen)) if new.unseen is not None else None
    unseen = given.names if given else ()
    # Folders with several meanings are not read: the question would be followed by its consequences.
    listing = _read_listing(new, {**spec, "unseen": [*unseen]}, settings, problems) if block.clear else None

    names = NAMES / f"{new.name}.txt"
    names_are_input = new.unseen is not None and new.unseen.resolve() == names.resolve()
    names_text = "".join([HEADER.format(name=new.name), *(f"{name}\n" for name in unseen)])
    if not names_are_input and os.path.lexists(names) and not _has_content(names, names_text):
        problems.messages.append(
            f"{names} already exists and belongs to another task: use another name, or pass this file as --unseen"
        )
    if os.path.lexists(NAMES) and not NAMES.is_dir():
        problems.messages.append(f"{NAMES} is not a folder, but must hold {names.name}: move it away")

    changed = problems.attempt(partial(_with_task, text, new, {**spec, "unseen": names.as_posix()}))
    if names_are_input and given and given.notes:
        problems.messages.append(f"{'; '.join(given.notes)}. Correct the file, because it is used as it is")
    if problems.messages:
        error = combined_error(problems.messages, f"cannot make a task of {new.images}; nothing was written")
        # What was passed over may be why.
        notes = [*listing.notes, *passed_over_lines(listing.passed_over)] if listing else []
        raise InputError("\n".join([str(error), *(f"note: {note}" for note in notes)]))
    assert listing is not None  # noqa: S101 (otherwise there is a problem)
    assert changed is not None  # noqa: S101
    listing = replace(listing, notes=(*(given.notes if given else ()), *block.notes, *listing.notes))
    text_of_names = None if names_are_input else names_text
    return PreparedTask(listing, names, text_of_names, changed, block.absolute, block.folder)


def _read_listing(new: NewTask, spec: Mapping[str, Any], settings: params.Params, problems: Problems) -> Listing | None:
    """Read and check the images with the reader of a block; None if that is impossible."""
    root = Path(settings.data.root)
    listing = problems.attempt(lambda: reader_from(spec, f"task {new.name}").read(root))
    if listing is None:
        return None

    problems.messages += [*mistakes(listing), *_too_few_images(listing, new.shots)]
    problems.messages += prompt_room(settings, new.name, listing, *learners(settings, new.name, Blocks()))
    if seen_ids(listing):  # else it is already reported
        problems.attempt(partial(PROTOCOL.plan, new.name, {new.name: _class_counts(listing)}))
    return listing


def _has_content(file: Path, text: str) -> bool:
    """Return whether a file has exactly this text, as an interrupted `write` leaves it."""
    return file.is_file() and file.read_bytes() == text.encode()


def _too_few_images(listing: Listing, shots: int | None) -> Iterator[str]:
    """Yield a line for each seen class with fewer training images than `shots`, or one if there is no seen class."""
    counts = Counter(image.class_id for image in listing.images if image.split == "train")
    if listing.images and not counts:
        yield "no class has training images: all of them are listed in --unseen, or have only images of other splits"
    if counts and len(listing.classes) == 1:
        yield f"{listing.classes[0]!r} is the only class, so there is nothing to tell it from: name others in --unseen"
    for class_id, count in counts.items():
        if shots is not None and count < shots:
            yield f"{listing.classes[class_id]!r} has {count} training images, fewer than --shots {shots}"


def _class_counts(listing: Listing) -> ClassCounts:
    """Return the number of images of each class and split, assuming that all images are readable."""
    counts: dict[str, NDArray[np.int64]] = {split: np.zeros(len(listing.classes), np.int64) for split in SPLITS}
    for image in listing.images:
        counts[image.split][image.class_id] += 1
    return ClassCounts(listing.classes, counts)


def _with_task(text: str, new: NewTask, dataset: Mapping[str, Any]) -> str:
    """Return the checked text of `params.yaml` with the data set and the task."""
    if not re.fullmatch(params.NAME, new.name):
        raise InputError(
            f"invalid name {new.name!r}: it is used in file names; expected letters, digits, _, . and -, starting with "
            "a letter or a digit"
        )
    if not _is_text_in_yaml(new.name):
        raise InputError(
            f"invalid name {new.name!r}: YAML, the format of params.yaml, reads it as a number, a date or a constant; "
            f"use a name with letters, such as task_{new.name}"
        )
    text = overrides.insert(text, "data.sets", new.name, dataset)
    text = overrides.insert(text, "tasks", new.name, {"protocol": PROTOCOL.protocol, "shots": new.shots})
    params.parse_text(text)
    return text


def _is_text_in_yaml(name: str) -> bool:
    """Return whether YAML reads a name as text; the words are constants in YAML 1.1, which DVC may read."""
    return name.lower() not in ("y", "yes", "n", "no", "on", "off") and YAML(typ="safe", pure=True).load(name) == name


def split_counts(listing: Listing) -> Mapping[str, int]:
    """Return split -> number of images of seen classes."""
    seen = seen_ids(listing)
    counts = Counter(image.split for image in listing.images if image.class_id in seen)
    return {split: counts[split] for split in SPLITS}


def class_notes(listing: Listing) -> Iterator[str]:
    """Yield lines with the names of seen classes, of unseen ones, and of those that have only test images."""
    seen = seen_ids(listing)
    with_images = {image.class_id for image in listing.images}
    names = listing.classes
    for what, ids in (
        ("with training images", sorted(seen)),
        ("from the name alone, with test images", sorted(with_images - seen)),
        ("from the name alone", sorted({*range(len(names))} - with_images)),
    ):
        if ids:
            yield f"{counted(len(ids), 'class')} {what}: {_listed(names[class_id] for class_id in ids)}"

    # A misspelled folder makes a new class: `test/kestrels` beside `train/kestrel`.
    seen_names = [names[class_id] for class_id in seen]
    for class_id in sorted({*range(len(names))} - seen):
        close = difflib.get_close_matches(names[class_id].casefold(), [n.casefold() for n in seen_names], 1, SIMILAR)
        if close:
            original = next(name for name in seen_names if name.casefold() == close[0])
            yield f"{names[class_id]!r} has no training images, and {original!r} has: are they the same class?"


def _listed(names: Iterable[str]) -> str:
    names = [repr(name) for name in names]
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def too_small_splits(listing: Listing) -> Iterator[str]:
    """Yield a note for each split in which seen classes have no images to be evaluated on."""
    seen = seen_ids(listing)
    for split, kind, if_some, if_all in (
        ("val", "validation", "ignored when a run is selected", "runs cannot be compared"),
        ("test", "test", "not included in test results", "nothing is evaluated"),
    ):
        missing = sorted(seen - {image.class_id for image in listing.images if image.split == split})
        if not missing:
            continue
        if not any(image.split == split for image in listing.images):
            yield f"no class has {kind} images, so {if_all}: the smallest class has too few images"
        else:
            listed = _listed(listing.classes[class_id] for class_id in missing)
            count = f"{len(missing)} of {counted(len(seen), 'class')} {are(len(missing), 'has', 'have')}"
            them = are(len(missing), "it is", "they are")
            yield f"{count} no {kind} images, so {them} {if_some}: {listed}"

    if len(seen) == 1 and len(listing.classes) > 1:
        yield "a single class has images, so runs cannot be compared: nothing shows how they treat the other classes"


def seen_ids(listing: Listing) -> frozenset[int]:
    """Return the ids of the classes with training images."""
    return frozenset(image.class_id for image in listing.images if image.split == "train")
