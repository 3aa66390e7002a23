"""Find images that are the same picture, and keep them on one side of a split.

A picture that is in the training and in the test images makes the measured accuracy too high, and one that is in two
classes is labelled wrongly once. Copies are often re-encoded or resized, so thumbnails are compared besides the bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from features.datasets.base import SPLITS, Image, Split
from features.errors import are, counted, shown

# Copies at a third of the size have details that correlate by 0.94 and more. Different photographs of one fabric or sky
# have equal light, but not equal details; see tests/features/test_duplicates.py.
CORRELATION = 0.92  # of the details of two thumbnails: what remains when the mean of each cell is taken away
CELLS = 8  # a side
DIFFERENCE = 8.0  # of the mean brightness, and mean of the absolute differences of all pixels, of 255
DETAIL = 2.0  # standard deviation of the details below which a thumbnail is plain, and only equal bytes count
BLOCK = 512  # images that are compared at a time
LISTED = 3  # examples in a line

Sets = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Together:
    """Images after those that belong together were put on one side.

    Attributes:
        images: The images, in the order in which they were given.
        moved: How many got another split.
    """

    images: tuple[Image, ...]
    moved: int


def find_duplicates(
    paths: Sequence[str], sha256: Sequence[str], thumbnails: Sequence[NDArray[np.uint8] | None]
) -> Sets:
    """Return the sets of paths that show the same picture, each sorted, in the order of their first paths.

    Args:
        paths: N paths.
        sha256: N digests of the files' bytes.
        thumbnails: N grey thumbnails (H, W); None of an unreadable file.
    """
    first = {digest: row for row, digest in reversed([*enumerate(sha256)])}
    pairs = [(row, first[digest]) for row, digest in enumerate(sha256) if first[digest] != row]

    # Equal bytes are known, so one of them stands for all.
    known = {row: thumbnail for row in first.values() if (thumbnail := thumbnails[row]) is not None}
    rows = [*known]
    pairs += [(rows[a], rows[b]) for a, b in _near_pairs([*known.values()])]
    return _sets((paths[a], paths[b]) for a, b in pairs)


def _near_pairs(thumbnails: Sequence[NDArray[np.uint8]]) -> Iterator[tuple[int, int]]:
    """Yield pairs of positions of thumbnails that are nearly equal.

    Each pair joins two sets, so N thumbnails give fewer than N pairs, however many are alike.
    """
    if not thumbnails:
        return
    first: dict[bytes, int] = {}
    same = np.array([first.setdefault(thumbnail.tobytes(), row) for row, thumbnail in enumerate(thumbnails)])

    # Equal pictures have equal brightness, so each is compared with its neighbours in that order alone.
    rows = np.array(sorted(first.values(), key=lambda row: float(thumbnails[row].mean())))
    grey = np.stack([thumbnails[row] for row in rows])
    level = grey.mean((1, 2))
    unit, is_plain = _unit_details(grey)
    for row in np.flatnonzero((same != np.arange(len(same))) & ~np.isin(same, rows[is_plain])):
        yield int(row), int(same[row])

    joined = np.arange(len(rows))  # those of equal numbers are in one set, as far as they are still compared
    for start in range(0, len(rows), BLOCK):
        one = slice(start, start + BLOCK)
        end = int(np.searchsorted(level, level[one][-1] + DIFFERENCE, side="right"))
        for first_other in range(start, end, BLOCK):
            other = slice(first_other, min(first_other + BLOCK, end))
            if (joined[one] == joined[start]).all() and (joined[other] == joined[start]).all():
                continue
            alike = unit[one] @ unit[other].T > CORRELATION
            for a in start + np.flatnonzero(alike.any(1)):
                found = first_other + np.flatnonzero(alike[a - start] & (joined[other] != joined[a]))
                found = found[np.abs(grey[a].astype(np.int16) - grey[found]).mean((1, 2)) <= DIFFERENCE]
                sets, places = np.unique(joined[found], return_index=True)
                joined[start:end][np.isin(joined[start:end], sets)] = joined[a]
                yield from ((int(rows[a]), int(rows[b])) for b in found[places])


def _unit_details(grey: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return (N, H, W) thumbnails without the means of their cells as unit vectors (N, H * W), and which are plain.

    Those of plain thumbnails are zero, so they are like no other.
    """
    count, height, width = grey.shape
    cells = grey.reshape(count, CELLS, height // CELLS, CELLS, width // CELLS)
    details = (cells - cells.mean((2, 4), np.float32, keepdims=True)).reshape(count, -1)
    length = np.sqrt(np.einsum("nd,nd->n", details, details))  # without an array of squares
    is_plain = length < DETAIL * np.sqrt(height * width)
    details /= np.where(is_plain, np.inf, length)[:, None]
    return details, is_plain


def _sets(pairs: Iterable[tuple[str, str]]) -> Sets:
    """Return the connected sets of a graph, given its edges."""
    parent: dict[str, str] = {}

    def root(path: str) -> str:
        while (above := parent.setdefault(path, path)) != path:
            parent[path] = path = parent[above]  # halves the way for the next search
        return path

    for one, other in pairs:
        parent[root(one)] = root(other)
    members: dict[str, list[str]] = defaultdict(list)
    for path in [*parent]:
        members[root(path)].append(path)
    return tuple(sorted(tuple(sorted(paths)) for paths in members.values()))


def keep_together(
    images: Sequence[Image], drawn: frozenset[str], sets: Sets, groups: Mapping[str, str] | None = None
) -> Together:
    """Put images that belong together on one side, as far as their splits were drawn here.

    All of a set follow to the training images if one of them is there, else to the validation images. So a test image
    is never one that was trained on.

    Args:
        images: The images.
        drawn: Paths of images whose split was drawn here; those of all others was given, and stays.
        sets: Paths that belong together.
        groups: Path -> name of a group that belongs together, too.
    """
    by_group: dict[str, list[str]] = defaultdict(list)
    for path, group in (groups or {}).items():
        by_group[group].append(path)
    edges = [(members[0], other) for members in (*sets, *by_group.values()) for other in members[1:]]

    split_of = {image.path: image.split for image in images}
    target: dict[str, Split] = {}
    for members in _sets(edges):
        known = [split_of[path] for path in members if path in split_of]
        side = min(known, key=SPLITS.index) if known else None
        if side is not None:
            target |= {path: side for path in members if path in drawn}

    kept = tuple(
        image if (side := target.get(image.path)) in (None, image.split) else replace(image, split=side)
        for image in images
    )
    return Together(kept, sum(old is not new for old, new in zip(images, kept, strict=True)))


def duplicate_lines(images: Sequence[Image], sets: Sets, moved: int) -> Iterator[str]:
    """Yield one line for each kind of fault that equal pictures cause: how many, and examples."""
    if not sets:
        return
    image_of = {image.path: image for image in images}
    extra = sum(len(members) - 1 for members in sets)
    copied = are(extra, "is a copy of another", "are copies of others")
    yield f"{counted(extra, 'image')} {copied}, equal or re-encoded: {_examples(sets)}"

    in_classes = [members for members in sets if len({image_of[path].class_id for path in members}) > 1]
    if in_classes:
        count = len(in_classes)
        yield (
            f"{counted(count, 'picture')} {are(count)} in two classes or more, so a label is wrong: "
            f"{_examples(in_classes)}"
        )
    if moved:
        yield f"{counted(moved, 'image')} moved to the split of {are(moved, 'its', 'their')} copies or group"
    if crossing := crossing_sets(images, sets):
        yield (
            f"{counted(len(crossing), 'picture')} {are(len(crossing))} in training and in test images, as the splits "
            f"are given, so the accuracy is too high: {_examples(crossing)}"
        )


def crossing_sets(images: Sequence[Image], sets: Sets) -> Sets:
    """Return the sets that have test images and images of another split."""
    split_of = {image.path: image.split for image in images}
    splits = [{split_of[path] for path in members} for members in sets]
    return tuple(members for members, found in zip(sets, splits, strict=True) if "test" in found and len(found) > 1)


def _examples(sets: Sequence[tuple[str, ...]]) -> str:
    more = ", ..." if len(sets) > LISTED else ""
    return ", ".join(" = ".join(map(shown, members[:LISTED])) for members in sets[:LISTED]) + more
