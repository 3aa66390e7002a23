"""Rows of a file of features, with what the user says of them, as the splits of a store."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.datasets.base import SPLITS, Split
from features.errors import InputError, nearest, raise_all
from features.exchange.formats.base import FIELDS, FeatureFile, RowBlock
from features.formats.untrusted import read_json

SHOWN = 5  # mistakes of one kind that a message lists
TEMPLATES = ("a photo of a {}.",)


@dataclass(frozen=True)
class ImportRequest:
    """What the user says of a file of features.

    Attributes:
        source: the file or folder. dataset: the data set's name from now on.
        encoder, weights_sha256: whose features they are; None: as the file, an export, says.
        classes: a file with the class names by id: a text with a name a line, or an index's JSON.
        templates: prompts; none: those of the JSON, else `TEMPLATES`.
        rows: a CSV with some of the columns labels, splits and ids, a line a row.
        keys: what the file calls some of `FIELDS`. split: of every row.
        to_float16: round what is not float16.
    """

    source: Path
    dataset: str
    encoder: str | None = None
    weights_sha256: str | None = None
    classes: Path | None = None
    templates: tuple[str, ...] = ()
    rows: Path | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    split: Split | None = None
    to_float16: bool = False


@dataclass(frozen=True, eq=False)
class SplitArrays:
    """One split: features (N, K, D) float16, labels (N,) int32, valid (N,) bool, N ids."""

    features: NDArray[np.float16]
    labels: NDArray[np.int32]
    valid: NDArray[np.bool_]
    ids: tuple[str, ...]


def gather(
    content: FeatureFile, wish: ImportRequest
) -> tuple[dict[Split, SplitArrays], tuple[str, ...], tuple[str, ...]]:
    """Each split's rows in the file's order, the C class names by id, and the templates.

    Raises:
        InputError: labels, splits or class names are missing or unknown; views or dimensions differ; values are not
            finite, or not float16 and not to be rounded.
    """
    blocks = _with_rows(content.blocks, wish)
    absent = {name for block in blocks for name in ("labels", "splits") if name not in block.columns}
    fixes = {"labels": "a column in --rows, or --key labels=<name>", "splits": "--split, or a column in --rows"}
    raise_all([f"{name}: give {fixes[name]}" for name in sorted(absent)], f"{wish.source} does not say all of its rows")
    classes, templates = _classes(content, blocks, wish)
    raise_all(list(_mistakes(blocks, classes)), f"{wish.source} cannot be imported")
    positions = {name: number for number, name in enumerate(classes)}
    dim = blocks[0].features.shape[-1]
    return {split: _part(split, blocks, positions, dim, wish) for split in SPLITS}, classes, templates


def _with_rows(blocks: Sequence[RowBlock], wish: ImportRequest) -> list[RowBlock]:
    """The blocks, with the columns of `--rows` and `--split` in place of their own."""
    total = sum(map(len, blocks))
    added = read_rows(wish.rows) if wish.rows else {}
    wrong = [f"{len(values):,} {name}" for name, values in added.items() if len(values) != total]
    raise_all(wrong, f"{wish.rows} does not fit {wish.source}, which has {total:,} rows")
    if wish.split is not None:
        added["splits"] = np.full(total, wish.split)
    starts = np.cumsum([0, *map(len, blocks)]).tolist()
    return [
        RowBlock(
            block.features.reshape(len(block), -1, block.features.shape[-1]),
            {**block.columns, **{name: values[start : start + len(block)] for name, values in added.items()}},
        )
        for block, start in zip(blocks, starts, strict=False)
    ]


def read_rows(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of a CSV with a heading, each (N,) texts; labels that all are whole numbers become numbers.

    Raises:
        InputError: it cannot be read, has other columns, or lines of another length than its heading.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            heading, *lines = list(csv.reader(text, strict=True)) or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV (UTF-8): {error}") from error
    known = [name for name in FIELDS if name not in ("features", "valid")]
    problems = [f"column {name!r} is unknown; {nearest(name, known)}" for name in heading if name not in known]
    problems += [] if heading else [f"it has no heading of some of {', '.join(known)}"]
    uneven = [number for number, line in enumerate(lines, start=2) if len(line) != len(heading)]
    problems += [f"line {number} has not {len(heading)} values" for number in uneven[:SHOWN]]
    raise_all(problems, f"{path} cannot be used")
    columns = {name: np.array([line[place] for line in lines], np.str_) for place, name in enumerate(heading)}
    if "labels" in columns and all(re.fullmatch(r"[0-9]{1,9}", value) for value in columns["labels"]):
        columns["labels"] = columns["labels"].astype(np.int64)
    return columns


def _classes(
    content: FeatureFile, blocks: Sequence[RowBlock], wish: ImportRequest
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Class names by id, and templates."""
    named, said = _named(wish.classes) if wish.classes else (content.classes, ())
    if named is None:
        labels = [block.columns["labels"] for block in blocks]
        if any(values.dtype.kind != "U" for values in labels):
            raise InputError(
                f"{wish.source}: labels are numbers, and their names are not known: give --classes with a name a line, "
                "the name of 0 first"
            )
        named = sorted({str(name) for values in labels for name in values})
    templates = wish.templates or tuple(said) or TEMPLATES
    if not isinstance(named, list | tuple) or not all(isinstance(text, str) for text in (*named, *templates)):
        raise InputError(f"{wish.classes or wish.source}: class names and templates must be texts in a list")
    return tuple(named), templates


def _named(path: Path) -> tuple[Any, Sequence[Any]]:
    """Class names and templates of an index's JSON, or the lines of a text."""
    if path.suffix == ".json":
        said = read_json(path, "give an index's JSON, or a text file with a name a line")
        if not isinstance(said, dict) or not isinstance(said.get("templates", []), list) or "classes" not in said:
            raise InputError(f"{path} is no index's JSON, which has `classes` and `templates`")
        return said["classes"], said.get("templates", [])
    try:
        return path.read_text(encoding="utf-8-sig").splitlines(), ()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text: {error}") from error


def _mistakes(blocks: Sequence[RowBlock], classes: Sequence[str]) -> Iterator[str]:
    splits = {str(name) for block in blocks for name in np.unique(block.columns["splits"])}
    yield from (f"split {name!r}; {nearest(name, SPLITS)}" for name in sorted(splits - {*SPLITS})[:SHOWN])
    for name in ("ids", "valid"):
        if len({name in block.columns for block in blocks}) > 1:
            yield f"some parts of the file have {name}, others have none"
    dims = sorted({block.features.shape[2] for block in blocks})
    if len(dims) > 1 or 0 in dims:
        yield f"features have {dims} numbers; all must have as many, and some"
    for split in SPLITS:
        views = sorted({block.features.shape[1] for block in blocks if (block.columns["splits"] == split).any()})
        if len(views) > 1 or 0 in views or (split != "train" and views not in ([], [1])):
            yield f"{split} has features in {views} views; all must have as many, and only train more than 1"
    for block in blocks:
        labels = block.columns["labels"]
        if labels.dtype.kind == "U":
            unknown = sorted({str(name) for name in np.unique(labels)} - {*classes})
            yield from (f"label {name!r} is no class; {nearest(name, classes)}" for name in unknown[:SHOWN])
        elif len(labels) and not (labels.min() >= 0 and labels.max() < len(classes)):
            yield f"labels go from {labels.min()} to {labels.max()}, but there are {len(classes)} classes, 0 the first"


def _part(
    split: Split, blocks: Sequence[RowBlock], positions: Mapping[str, int], dim: int, wish: ImportRequest
) -> SplitArrays:
    """All rows of one split; those without ids are called by their number in it."""
    taken = [(block, rows) for block in blocks if len(rows := np.flatnonzero(block.columns["splits"] == split))]
    if not taken:
        return SplitArrays(np.empty((0, 1, dim), np.float16), np.empty(0, np.int32), np.empty(0, np.bool_), ())

    def column(name: str) -> NDArray[Any] | None:
        has = all(name in block.columns for block, _ in taken)
        return np.concatenate([block.columns[name][rows] for block, rows in taken]) if has else None

    features = np.concatenate([block.features[rows] for block, rows in taken])
    labels, valid, ids = column("labels"), column("valid"), column("ids")
    if valid is None:
        valid = np.ones(len(features), np.bool_)
    numbers = [positions[one] if isinstance(one, str) else one for one in ([] if labels is None else labels.tolist())]
    called = (
        [f"{split}/{row:07}" for row in range(len(features))] if ids is None else [str(one) for one in ids.tolist()]
    )
    return SplitArrays(
        _float16(features, valid, split, wish),
        np.array(numbers, np.int32),
        valid,
        tuple(one.lstrip("/") for one in called),
    )


def _float16(values: NDArray[Any], valid: NDArray[np.bool_], split: Split, wish: ImportRequest) -> NDArray[np.float16]:
    """The values as a store keeps them: the same ones, or rounded where the user says so."""
    if values.dtype != np.float16 and not wish.to_float16:
        raise InputError(
            f"{wish.source}: features are {values.dtype}, and a store keeps float16. With --to-float16 they are "
            "rounded, by at most 0.05 % of each value"
        )
    with np.errstate(over="ignore", under="ignore"):
        rounded = values.astype("<f2")
    wrong = np.flatnonzero(valid & ~np.isfinite(rounded).all(axis=(1, 2)))
    if len(wrong):
        kind = "beyond float16's 65,504, or not finite" if values.dtype != np.float16 else "not finite"
        raise InputError(
            f"{wish.source}: values of {len(wrong):,} rows of {split} are {kind}, the first is row {wrong[0]}"
        )
    return rounded
