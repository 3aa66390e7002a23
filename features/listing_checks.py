"""What is wrong with a listing before it is indexed: contradictions, names that a text tower cannot use, counts."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import PurePosixPath

from features.datasets.base import Counts, Listing, canonical_name, is_template
from features.shards.rows import ShardRows
from features.splits.image_files import examples

JOINERS = re.compile("[\u200c\u200d]")  # parts of Persian words and of emoji


def mistakes(listing: Listing) -> Iterator[str]:
    """Yield the faults of a copy, and every contradiction of its listing with itself or its published counts."""
    yield from listing.faults
    if not listing.images:
        yield "it has no images"

    yield from _name_mistakes(listing)
    yield from _template_mistakes(listing)
    if not isinstance(listing.images, ShardRows):  # its names were checked when the archives were read
        yield from _image_mistakes(listing)
    if listing.origin.counts:
        yield from _count_mistakes(listing, listing.origin.counts)


def _name_mistakes(listing: Listing) -> Iterator[str]:
    """Yield class names that are empty or unprintable, or that the text tower could not distinguish."""
    ids_by_name: dict[str, list[int]] = defaultdict(list)
    for class_id, name in enumerate(listing.classes):
        printable = JOINERS.sub("", name).isprintable()
        if name != name.strip() or not name.strip("_") or not printable:
            yield f"class {class_id} {name!r}: a class name must be printable text without spaces around it"
        if name not in listing.repeated_names:
            ids_by_name[canonical_name(name)].append(class_id)

    for ids in ids_by_name.values():
        if len(ids) > 1:
            same = ", ".join(f"{class_id} {listing.classes[class_id]!r}" for class_id in ids)
            yield f"classes {same}: the same name for a text tower (case, _ and spaces make no difference); use one"


def _template_mistakes(listing: Listing) -> Iterator[str]:
    for template in listing.templates:
        if not is_template(template):
            yield f"template {template!r}: must have one {{}} for the class name and no other brace"
    if not listing.templates:
        yield "there is no template; the usual one is 'a photo of a {}.'"


def _image_mistakes(listing: Listing) -> Iterator[str]:
    splits_by_path: dict[str, list[str]] = defaultdict(list)
    by_problem: dict[str, list[str]] = defaultdict(list)
    for image in listing.images:
        splits_by_path[image.path].append(image.split)
        if not 0 <= image.class_id < len(listing.classes):
            yield f"{image.path}: class id {image.class_id} is not in 0 to {len(listing.classes) - 1}"
        if problem := path_problem(image.path):
            by_problem[problem].append(image.path)
    for problem, paths in by_problem.items():
        yield f"{f'{len(paths)} images: ' if len(paths) > 1 else ''}{examples([*map(repr, paths)])}: {problem}"

    for path, splits in splits_by_path.items():
        if len(splits) > 1:
            yield f"{path}: listed {len(splits)} times ({', '.join(splits)})"


def path_problem(path: str) -> str | None:
    """Return what is wrong with the path of an image, or None."""
    parts = path.split("/")
    if ".." in parts or path in ("", ".") or path.startswith("/"):
        return "outside the data set's folder; a path must be relative to it, without `..`"
    if "." in parts or "" in parts:
        return f"write it as {str(PurePosixPath(path))!r}"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "the name is not UTF-8; rename the file or its folder"
    return None


def _count_mistakes(listing: Listing, counts: Counts) -> Iterator[str]:
    per_split = Counter[str](image.split for image in listing.images)
    per_split["train"] += listing.left_out
    published: dict[str, int] = asdict(counts)
    actual = {part: per_split[part] for part in published} | {"classes": len(listing.classes)}

    # The split of a missing image may be unknown, so a partial copy is compared by its total.
    if listing.missing:
        published = {"images": counts.train + counts.val + counts.test, "classes": counts.classes}
        actual = {"images": per_split.total() + listing.missing, "classes": actual["classes"]}

    for part, expected in published.items():
        if actual[part] != expected:
            yield f"{part}: {actual[part]:,}, published: {expected:,}; is the copy incomplete, or the split another?"
