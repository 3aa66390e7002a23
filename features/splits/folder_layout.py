"""Understand the folders that a person brings: which are splits, and which are classes."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from features.datasets.base import SPLITS, Split
from features.errors import InputError, combined_error
from features.splits.image_files import Found, examples

# Names of splits in data sets and labelling tools, without regard to case and to the words beside them.
SPLIT_NAMES: Mapping[str, Split] = {
    **dict.fromkeys(("train", "training", "trainset"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "valset"), "val"),
    **dict.fromkeys(("test", "testing", "testset", "eval", "evaluation"), "test"),
}
BESIDE = frozenset({"data", "dataset", "images", "imgs", "photos", "pictures", "set", "split"})  # as in `train_images`
CLOSE = 0.75  # similarity of `Tset` and `test`


def split_of(name: str) -> Split | None:
    """Return the split that a name means, or None.

    A year at its end, as in COCO's `train2017`, and words as in `train_images` make no difference.
    """
    words = re.split(r"[-_\s]+", re.sub(r"[-_\s]?20\d\d$", "", name.strip().casefold()))
    kept = [word for word in words if word not in BESIDE]
    return SPLIT_NAMES.get(kept[0]) if len(kept) == 1 else None


def split_in_name(path: str) -> str | None:
    """Return the part of a file's folders or name that names a split; None if there is none."""
    *folders, file = path.split("/")
    words = [*folders, *re.split(r"[-_.]", file)]
    return next((word for word in words if split_of(word)), None)


def near_split(name: str) -> str | None:
    """Return the name of a split that a misspelled name is close to, or None."""
    if split_of(name):
        return None
    close = difflib.get_close_matches(name.strip().casefold(), SPLIT_NAMES, n=1, cutoff=CLOSE)
    return close[0] if close else None


def resolve_splits(named: Mapping[str, Split]) -> tuple[dict[str, Split | None], tuple[str, ...]]:
    """Decide what the splits of some names mean together.

    A data set with only training images is split here. One without test images is tested on its validation images, and
    validation images are drawn from the training images.

    Args:
        named: Name, as the user writes it -> split. One of them is `train`.

    Returns:
        Name -> split, None: to be drawn; and lines that say how the names were understood.
    """
    given = {*named.values()}
    if given == {"train"}:
        names = examples([*named])
        return dict.fromkeys(named), (f"only {names} is given: training, validation and test images are drawn from it",)

    result: dict[str, Split | None] = dict(named)
    notes = []
    renamed = {name: split for name, split in named.items() if name != split}
    if "test" not in given:
        result = {name: "test" if split == "val" else split for name, split in named.items()}
        names = examples([name for name, split in named.items() if split == "val"])
        notes.append(f"no test images are given: those of {names} are the test images; validation is drawn from train")
        renamed = {name: split for name, split in renamed.items() if split != "val"}
    if renamed:
        notes.insert(0, "read as splits: " + ", ".join(f"{name} as {split}" for name, split in renamed.items()))
    return result, tuple(notes)


def splits_of_names(names: Iterable[str]) -> tuple[dict[str, Split | None], tuple[str, ...]]:
    """Return what the values of a column `split` mean together, and lines that say so; others than splits are left out.

    See `resolve_splits`.
    """
    named = {name: split for name in sorted(names) if (split := split_of(name)) is not None}
    if "train" not in named.values():
        return dict(named), ()
    return resolve_splits(named)


def split_folders(folder: Path, found: Found) -> tuple[dict[str, Split | None], tuple[str, ...]]:
    """Return the split of each top-level folder that is one, and lines that say how the folders were understood.

    Raises:
        InputError: a folder seems to be a misspelled split, or there is none for training; lists every problem.
    """
    tops = [path for path in found.folders if "/" not in path]
    nested = _folders_of_folders(found.images)
    # A folder `test` of images without classes, as in competitions, is passed over.
    named = {top: split for top in tops if top in nested and (split := split_of(top)) is not None}
    problems = [f"{one}: rename it, or move it out of {folder}" for one in _misspelled(tops)]
    if "train" not in named.values():
        problems.append("there is no folder 'train' that holds folders of classes")
    if problems:
        raise combined_error(problems, f"{folder} cannot be split by its folders ({', '.join(SPLITS)})")
    return resolve_splits(named)


def has_split_folders(folder: Path, found: Found) -> bool:
    """Return whether the folders in a folder are splits, which hold the folders of classes.

    Raises:
        InputError: some folders look like splits, and others do not, or splits hold no folders of classes.
    """
    tops = [path for path in found.folders if "/" not in path]
    nested = _folders_of_folders(found.images)
    named = [top for top in tops if split_of(top)]
    if len(named) > 1 and len(named) == len(tops) and not any(path.count("/") > 1 for path in found.images):
        raise InputError(
            f"{folder}: the folders {', '.join(named)} are splits, but the images lie directly in them: put each image "
            "into a folder with the name of its class, or give a table with the columns path, label and split"
        )

    # A class may be called `train`: then it holds its images, not folders of classes.
    splits = [top for top in named if top in nested]
    if "train" not in map(split_of, splits):
        return False
    others = [top for top in tops if top not in named]
    if others:
        hints = _misspelled(others)
        rename = f"Rename what is a misspelled split: {examples(hints)}. " if hints else ""
        raise InputError(
            f"{folder}: {examples(splits)} {_is(splits)} read as {_split(splits)}, and beside {_is(others)} "
            f"{examples(others)}. {rename}If all are classes, add --class-from first; else, move "
            f"{examples(others)} away"
        )
    return True


def holds_boxes(found: Found) -> bool:
    """Return whether a folder has YOLO's layout for detection: the boxes of `images/1.jpg` in `labels/1.txt`."""
    pictures = {path.rpartition(".")[0] for path in found.images}
    boxes = (path.removesuffix(".txt") for path, _ in found.passed_over if path.endswith(".txt"))
    return any(re.sub(r"(^|/)labels/", r"\1images/", path) in pictures for path in boxes if "labels/" in path)


def ask_about_levels(folder: Path, found: Found, *, splits: bool) -> str | None:
    """Return what to ask a person if the classes may be one level deeper than they seem; None if they are not.

    Args:
        folder: The folder with the folders of classes or, if `splits`, of splits.
        found: Its content.
        splits: Whether the folders in it are splits.
    """
    paths = [path.partition("/")[2] if splits else path for path in found.images]
    nested = _folders_of_folders(paths)
    if not nested:
        return None

    tops, inner = examples([*nested]), [f"{top}/{name}" for top, names in nested.items() for name in names]
    only = next(iter(nested)) if len(nested) == 1 and {path.partition("/")[0] for path in paths} == {*nested} else None
    if only is not None and not splits and any(map(split_of, nested[only])):
        return f"{folder} holds only {only}, which has splits ({examples(inner)}): use --images '{folder / only}'"

    hints = _misspelled(nested)
    rename = f"Rename what is a misspelled split: {examples(hints)}. " if hints else ""
    or_path = f" or --images '{folder / only}'" if only is not None and not splits else ""
    return (
        f"{folder}: {tops} {'holds' if len(nested) == 1 else 'hold'} images only in folders ({examples(inner)}). "
        f"{rename}If {tops} {'is a class' if len(nested) == 1 else 'are classes'}: add --class-from first. If the "
        f"folders in {'it' if len(nested) == 1 else 'them'} are classes: add --class-from last{or_path}"
    )


def _folders_of_folders(paths: Iterable[str]) -> dict[str, list[str]]:
    """Return each first folder of some paths in which all files lie in folders, with the names of these folders."""
    inner: dict[str, set[str]] = defaultdict(set)
    direct = set()
    for path in paths:
        top, _, inside = path.partition("/")
        if "/" in inside:
            inner[top].add(inside.partition("/")[0])
        else:
            direct.add(top)
    return {top: sorted(names) for top, names in sorted(inner.items()) if top not in direct}


def _misspelled(names: Iterable[str]) -> list[str]:
    """Return the names that are close to that of a split, each with this name."""
    return [f"{name!r} (did you mean {close!r}?)" for name in names if (close := near_split(name))]


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _split(names: Sequence[str]) -> str:
    return "a split" if len(names) == 1 else "splits"
