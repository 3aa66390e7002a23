"""Pictures that a data set of own images has several times, for the page of this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from features.datasets.base import Image, reader_from
from features.duplicates import Sets, crossing_sets, duplicate_lines
from features.encoding.images import UnreadableImageError
from features.errors import InputError
from features.index import read_names
from features.index_table import Index, read_index
from features.shards.source import ImageSource
from pipeline.artifacts import paths
from pipeline.config.params import PATH, Params
from pipeline.report.thumbnails import thumbnail

SETS = 6  # sets of copies that are shown
PICTURES = 3  # of each set


@dataclass(frozen=True)
class Copy:
    """One of several equal pictures: its path, its class, its split, and a JPEG in base64."""

    path: str
    label: str
    split: str
    data: str


@dataclass(frozen=True)
class Copies:
    """The copies in a data set: one line for each kind, and the pictures of some sets, the harmful ones first.

    `missing` says why pictures are not shown, for example because the data set is not on this machine.
    """

    dataset: str
    lines: list[str]
    sets: list[list[Copy]] = field(default_factory=list)
    missing: str = ""


def copies(params: Params) -> Iterator[Copies]:
    """Yield the copies in each data set of the grid that has some; only own images are searched for them."""
    for name in params.grid.datasets:
        if not paths.index(name).exists():
            continue
        index = read_index(paths.index(name))
        if index.duplicates:
            yield _copies(params, name, index)


def _copies(params: Params, name: str, index: Index) -> Copies:
    rows = zip(index.paths, index.class_ids.tolist(), index.splits, strict=True)
    images = {path: Image(path, class_id, split) for path, class_id, split in rows}
    found = Copies(name, list(duplicate_lines([*images.values()], index.duplicates, 0)))
    try:
        reader = reader_from(params.data.sets[name], f"{PATH}: data.sets.{name}")
        source = ImageSource(reader.base(Path(params.data.root)))
        classes = read_names(paths.names(name)).classes
        for members in _worst_first(images, index.duplicates)[:SETS]:
            found.sets.append(_pictures(source, index, [images[path] for path in members[:PICTURES]], classes))
    except (InputError, UnreadableImageError, OSError) as error:
        return replace(found, missing=str(error))
    return found


def _worst_first(images: Mapping[str, Image], sets: Sets) -> Sets:
    """Return sets that are in training and test images, then those in several classes, then all others."""
    crossing = {*crossing_sets([*images.values()], sets)}
    several = {members for members in sets if len({images[path].class_id for path in members}) > 1}
    return tuple(sorted(sets, key=lambda members: (members not in crossing, members not in several, members)))


def _pictures(source: ImageSource, index: Index, images: list[Image], classes: tuple[str, ...]) -> list[Copy]:
    refs = [index.image(index.paths.index(image.path)) for image in images]
    shown = []
    for image, data in zip(images, source.read(refs), strict=True):
        if isinstance(data, str):
            raise UnreadableImageError(f"{image.path}: {data}")
        shown.append(Copy(image.path, classes[image.class_id], image.split, thumbnail(data, index.reading)))
    return shown
