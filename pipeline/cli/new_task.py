"""`shipyard task new`: one's own images, and a list of names, become a data set, a task and its rehearsal."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.datasets.base import SPLITS, Listing, reader_from
from features.errors import InputError, Problems, nearest, raise_all
from features.formats.files import atomic_file
from features.index import mistakes
from features.splits.own_images import NAMES, read_names_file
from features.text.classes import MAX_CONTEXT_VECTORS
from features.text.prompts import OPENAI_CONTEXT_LENGTH, class_tokens, format_prompts, tokenize
from pipeline.artifacts.paths import proxy_task
from pipeline.config import overrides, params
from pipeline.protocols.base import ClassCounts, Protocol
from pipeline.protocols.own_images import OwnImages
from pipeline.protocols.validation_proxy import ValidationProxy

PROTOCOLS: tuple[Protocol, ...] = (OwnImages(protocol="own_images"), ValidationProxy(protocol=params.VALIDATION_PROXY))
SHOWN = 10  # most classes that a note names
HEADER = "# Classes of {name} without training images, a name a line; add one here to add a class.\n"


@dataclass(frozen=True)
class NewTask:
    """What the user asks for.

    Attributes:
        name: of the data set and of its task.
        images: a folder with a folder a class, or a CSV or Parquet table of path, label and, if any, split.
        unseen: a file of class names to learn from their names alone, a name a line; None: there are none.
        templates: hand-crafted prompts; empty: the reader's own.
        shots: training images of each seen class; None: all.
        aliases: a CSV of label, name. descriptions: a CSV of name, description.
        split_seed: another number draws other splits.
    """

    name: str
    images: Path
    unseen: Path | None = None
    templates: tuple[str, ...] = ()
    shots: int | None = None
    aliases: Path | None = None
    descriptions: Path | None = None
    split_seed: int = 0


@dataclass(frozen=True)
class Written:
    """What `create` found and wrote: a listing of the images, the file of names, and whether the path is absolute."""

    listing: Listing
    names: Path
    absolute: bool


def create(new: NewTask) -> Written:
    """Check all that is asked for, then write the names and `params.yaml`.

    Raises:
        InputError: lists every fault of the name, the images, the names and the other files; nothing is written then.
    """
    text, problems = params.read(), Problems()
    root = Path(params.parse_text(text).data.root)
    spec, absolute = _spec(new, root, problems)
    unseen = problems.attempt(partial(read_names_file, new.unseen)) if new.unseen else []
    listing = None
    if new.images.exists():
        named = {**spec, "unseen": unseen or []}
        listing = problems.attempt(lambda: reader_from(named, f"task {new.name}").read(root))
    if listing is not None:
        problems.messages += [*mistakes(listing), *_too_few(listing, new.shots)]
        problems.attempt(partial(_refuse_long_texts, listing))
        for protocol in PROTOCOLS if seen_ids(listing) else ():
            problems.attempt(partial(protocol.plan, new.name, {new.name: _catalog(listing)}))
    names = NAMES / f"{new.name}.txt"
    ours = new.unseen is not None and new.unseen.resolve() == names.resolve()
    lines = "".join([HEADER.format(name=new.name), *(f"{name}\n" for name in unseen or ())])
    # The same bytes are those of an interrupted `create`.
    if not ours and names.exists() and not (names.is_file() and names.read_bytes() == lines.encode()):
        problems.messages.append(f"{names} is there already, of another task: choose another name, or pass it as --unseen")
    changed = problems.attempt(partial(_changed, text, new, {**spec, "unseen": names.as_posix()}))
    raise_all(problems.messages, f"the task {new.name!r} cannot be made; nothing was written")
    assert listing is not None  # noqa: S101 (or a problem was found)
    assert changed is not None  # noqa: S101
    if not ours:
        with atomic_file(names) as part:
            part.write_text(lines, encoding="utf-8")
    params.write(changed)
    return Written(listing, names, absolute)


def _spec(new: NewTask, root: Path, problems: Problems) -> tuple[dict[str, Any], bool]:
    """The block of `data.sets`, without the names; and whether its path is absolute."""
    table = new.images.suffix.lower() in (".csv", ".parquet")
    folder = (new.images.parent if table else new.images).resolve()
    if not (new.images.is_file() if table else new.images.is_dir()):
        beside = map(str, new.images.parent.glob(f"[!.]*{new.images.suffix if table else '/'}"))
        hint = nearest(str(new.images), beside).partition("known:")[0]
        problems.messages.append(
            f"--images {new.images}: no such {'file' if table else 'folder'}; {hint}give a folder with a folder of "
            "images per class, or a CSV or Parquet file with the columns path and label"
        )
    inside = folder.is_relative_to(root.resolve())
    spec: dict[str, Any] = {"reader": "image_table" if table else "image_folder"}
    spec["path"] = folder.relative_to(root.resolve()).as_posix() if inside else str(folder)
    if table:
        spec["table"] = new.images.name
    elif problems.attempt(partial(_split_by_folders, folder)):
        spec["splits"] = "folders"
    if new.templates:
        spec["templates"] = list(new.templates)
    if new.split_seed:
        spec["split_seed"] = new.split_seed
    for option, file, *columns in (
        ("rename", new.aliases, "label", "name"),
        ("descriptions", new.descriptions, "name", "description"),
    ):
        if file is not None and (mapping := problems.attempt(partial(read_mapping, file, *columns))):
            spec[option] = mapping
    return spec, not inside


def _split_by_folders(folder: Path) -> bool:
    """Whether its folders are splits, not classes.

    Raises:
        InputError: some are, it seems, but others are not.
    """
    names = sorted(entry.name for entry in folder.glob("[!.]*") if entry.is_dir())
    if {"train", "test"} <= {*names} <= {*SPLITS}:
        return True
    likely = [name for name in names if name.lower() in (*SPLITS, "valid", "validation")]
    if "train" in map(str.lower, likely) and len(likely) > 1:
        raise InputError(
            f"{folder}: {', '.join(likely)} look like splits; then name them train, test and, if there is one, val, "
            f"with no folder beside them, and the classes' folders inside. These are here: {', '.join(names)}"
        )
    return False


def read_mapping(file: Path, key: str, value: str) -> dict[str, str]:
    """Two columns of a CSV file as a mapping.

    Raises:
        InputError: it cannot be read, has other columns, or a key stands twice.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, strict=True)
            lines = list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{file} cannot be read as CSV (UTF-8): {error}") from error
    if list(reader.fieldnames or []) != [key, value]:
        raise InputError(f"{file}: its first line must be {key},{value}; it is {','.join(reader.fieldnames or [])}")
    bad = [f"line {n}: {line[key]!r} has no {value}" for n, line in enumerate(lines, start=2) if not line[value]]
    twice = [f"{name!r} stands {n} times" for name, n in Counter(line[key] for line in lines).items() if n > 1]
    raise_all([*bad, *twice], f"{file} cannot be used")
    return {line[key]: line[value] for line in lines}


def _too_few(listing: Listing, shots: int | None) -> Iterator[str]:
    """Seen classes that have fewer training images than `shots`, and the lack of any seen class."""
    counts = Counter(image.class_id for image in listing.images if image.split == "train")
    if listing.images and not counts:
        yield "no class has training images: every folder is among the unseen names"
    for class_id, count in counts.items():
        if shots is not None and count < shots:
            yield f"{listing.classes[class_id]!r} has {count} training images, fewer than --shots {shots}"


def _refuse_long_texts(listing: Listing) -> None:
    """See that every name leaves room for a learned context, and fits every template with its description."""
    class_tokens(listing.classes, context_length=OPENAI_CONTEXT_LENGTH, prompt=MAX_CONTEXT_VECTORS)
    for template in listing.templates:
        if "{}" in template:
            tokenize(format_prompts(template, listing.classes, listing.descriptions))


def _catalog(listing: Listing) -> ClassCounts:
    """What protocols may know of the images, if all can be read."""
    counts: dict[str, NDArray[np.int64]] = {split: np.zeros(len(listing.classes), np.int64) for split in SPLITS}
    for image in listing.images:
        counts[image.split][image.class_id] += 1
    return ClassCounts(listing.classes, counts)


def _changed(text: str, new: NewTask, dataset: Mapping[str, Any]) -> str:
    """The text of `params.yaml` with the data set, the task and its rehearsal, checked."""
    if not re.fullmatch(params.NAME, new.name):
        raise InputError(
            f"the name {new.name!r} goes into file names: letters, digits, _ . and - after the first, no others"
        )
    text = overrides.insert(text, "data.sets", new.name, dataset)
    for name, made in zip((new.name, proxy_task(new.name)), PROTOCOLS, strict=True):
        text = overrides.insert(text, "tasks", name, {"protocol": made.protocol, "shots": new.shots})
    params.parse_text(text)
    return text


def split_counts(listing: Listing) -> Mapping[str, int]:
    """How many images of seen classes each split has."""
    seen = seen_ids(listing)
    counts = Counter(image.split for image in listing.images if image.class_id in seen)
    return {split: counts[split] for split in SPLITS}


def unjudged(listing: Listing) -> Iterator[str]:
    """What to say of seen classes that have too few images to be judged by."""
    seen = seen_ids(listing)
    for split, what, means in (
        ("val", "validation image", "the choice of a run does not count them"),
        ("test", "test image", "no result counts them"),
    ):
        lack = sorted(seen - {image.class_id for image in listing.images if image.split == split})
        if lack:
            named = ", ".join(repr(listing.classes[class_id]) for class_id in lack[:SHOWN])
            more = f" and {len(lack) - SHOWN} more" if len(lack) > SHOWN else ""
            yield f"{len(lack)} of {len(seen)} classes have no {what}, so {means}: {named}{more}"


def seen_ids(listing: Listing) -> frozenset[int]:
    """The classes with training images."""
    return frozenset(image.class_id for image in listing.images if image.split == "train")
