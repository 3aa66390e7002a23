"""Combine the rows of a feature file with the options of the user, and sort them into splits."""

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

MAX_SHOWN = 5  # mistakes of one kind that a message lists
TEMPLATES = ("a photo of a {}.",)


@dataclass(frozen=True)
class ImportRequest:
    """A file of features, and the facts about it that the user passes as options.

    Attributes:
        source: The file or folder.
        dataset: The name of the new data set.
        encoder: The encoder that computed the features; None if the file states it, as an export does.
        weights_sha256: Digest of the encoder's weights; None if the file states it.
        classes: A file with the class names by id: a text with one name per line, or an index's JSON.
        templates: Prompts; if empty, those of the JSON or of `split_of`, else `TEMPLATES`.
        rows: A CSV with some of the columns labels, splits and ids, one line per row of the features.
        keys: The names in the file of some of `FIELDS`.
        split: The split of every row.
        split_of: A reader whose official split the rows follow; it gives class names, prompts and the paths of images.
        only: A text file with the names of the classes to keep, one per line; None keeps all.
        to_float16: Round values that are not float16.
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
    split_of: str | None = None
    only: Path | None = None
    to_float16: bool = False


@dataclass(frozen=True, eq=False)
class SplitArrays:
    """The N rows of one split.

    Attributes:
        features: (N, K, D) float16, with K views.
        labels: (N,) int32, positions in the class names.
        valid: (N,) bool.
        ids: N names of the rows.
    """

    features: NDArray[np.float16]
    labels: NDArray[np.int32]
    valid: NDArray[np.bool_]
    ids: tuple[str, ...]


def split_rows(
    content: FeatureFile, request: ImportRequest
) -> tuple[dict[Split, SplitArrays], tuple[str, ...], tuple[str, ...]]:
    """Sort the rows into splits.

    Returns:
        The rows of each split in the file's order, the C class names by id, and the templates.

    Raises:
        InputError: Labels, splits or class names are missing or unknown; views or dimensions differ; or values are not
            finite, all zero, or not float16 without `to_float16`.
    """
    blocks = _add_columns(content.blocks, request)
    absent = {name for block in blocks for name in ("labels", "splits") if name not in block.columns}
    fixes = {"labels": "a column in --rows, or --key labels=<name>", "splits": "--split, or a column in --rows"}
    raise_all([f"{name}: pass {fixes[name]}" for name in sorted(absent)], f"{request.source} is incomplete")

    classes, templates = _class_names(content, blocks, request)
    raise_all(list(_mistakes(blocks, classes)), f"{request.source} cannot be imported")

    label_of_name = {name: label for label, name in enumerate(classes)}
    dim = blocks[0].features.shape[-1]
    splits = {split: _select_split(split, blocks, label_of_name, dim, request) for split in SPLITS}
    return splits, classes, templates


def _add_columns(blocks: Sequence[RowBlock], request: ImportRequest) -> list[RowBlock]:
    """Return blocks of (N, K, D) features; the columns of `--rows` and `--split` replace those of the file."""
    total = sum(map(len, blocks))
    if not sum(block.features.size for block in blocks):
        raise InputError(f"{request.source} has no values: its features have the shape {blocks[0].features.shape}")
    added = read_rows(request.rows) if request.rows else {}
    wrong = [f"{len(values):,} {name}" for name, values in added.items() if len(values) != total]
    raise_all(wrong, f"{request.rows} does not match {request.source}, which has {total:,} rows")
    if request.split is not None:
        added["splits"] = np.full(total, request.split)

    extended = []
    start = 0
    for block in blocks:
        end = start + len(block)
        views = block.features.shape[1:-1] or (1,)
        features = block.features.reshape(len(block), *views, block.features.shape[-1])
        columns = {**block.columns, **{name: values[start:end] for name, values in added.items()}}
        extended.append(RowBlock(features, columns))
        start = end
    return extended


def read_rows(path: Path) -> dict[str, NDArray[Any]]:
    """Read a CSV with a heading.

    Returns:
        (N,) texts for each column. Labels become numbers if all of them are whole numbers.

    Raises:
        InputError: The file cannot be read, has unknown columns, or a line has a different length than the heading.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            heading, *lines = list(csv.reader(text, strict=True)) or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV (UTF-8): {error}") from error

    known = [name for name in FIELDS if name not in ("features", "valid")]
    problems = [f"unknown column {name!r}; {nearest(name, known)}" for name in heading if name not in known]
    if not heading:
        problems.append(f"there is no heading; expected some of {', '.join(known)}")
    uneven = [number for number, line in enumerate(lines, start=2) if len(line) != len(heading)]
    problems += [f"line {number} does not have {len(heading)} values" for number in uneven[:MAX_SHOWN]]
    raise_all(problems, f"{path} cannot be used")

    columns = {name: np.array([line[i] for line in lines], np.str_) for i, name in enumerate(heading)}
    if "labels" in columns and all(re.fullmatch(r"[0-9]{1,9}", value) for value in columns["labels"]):
        columns["labels"] = columns["labels"].astype(np.int64)
    return columns


def _class_names(
    content: FeatureFile, blocks: Sequence[RowBlock], request: ImportRequest
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return class names by id, and templates."""
    class_names, file_templates = _read_class_file(request.classes) if request.classes else (content.classes, ())

    # Without a list of names, the labels themselves are the names, in alphabetical order.
    if class_names is None:
        labels = [block.columns["labels"] for block in blocks]
        if any(values.dtype.kind != "U" for values in labels):
            raise InputError(
                f"{request.source}: labels are numbers without class names: pass --classes, a file with one name per "
                "line, the name of label 0 first"
            )
        class_names = sorted({str(name) for values in labels for name in values})

    templates = request.templates or tuple(file_templates) or TEMPLATES
    if not isinstance(class_names, list | tuple) or not all(
        isinstance(text, str) for text in (*class_names, *templates)
    ):
        raise InputError(f"{request.classes or request.source}: class names and templates must be lists of texts")
    return tuple(class_names), templates


def _read_class_file(path: Path) -> tuple[Any, Sequence[Any]]:
    """Return class names and templates of an index's JSON, or the lines of a text file."""
    if path.suffix == ".json":
        values = read_json(path, "pass an index's JSON, or a text file with one name per line")
        if not isinstance(values, dict) or not isinstance(values.get("templates", []), list) or "classes" not in values:
            raise InputError(f"{path} is not an index's JSON, which has `classes` and `templates`")
        return values["classes"], values.get("templates", [])
    try:
        return path.read_text(encoding="utf-8-sig").splitlines(), ()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text: {error}") from error


def _mistakes(blocks: Sequence[RowBlock], classes: Sequence[str]) -> Iterator[str]:
    splits = {str(name) for block in blocks for name in np.unique(block.columns["splits"])}
    for name in sorted(splits - {*SPLITS})[:MAX_SHOWN]:
        yield f"unknown split {name!r}; {nearest(name, SPLITS)}"
    for name in ("ids", "valid"):
        if len({name in block.columns for block in blocks}) > 1:
            yield f"only some parts of the file have {name}"

    yield from _shape_mistakes(blocks)
    for block in blocks:
        yield from _label_mistakes(block.columns["labels"], classes)


def _shape_mistakes(blocks: Sequence[RowBlock]) -> Iterator[str]:
    dims = sorted({block.features.shape[2] for block in blocks})
    if len(dims) > 1 or 0 in dims:
        yield f"features have dimensions {dims}; all rows must have the same dimension, at least 1"

    for split in SPLITS:
        views = sorted({block.features.shape[1] for block in blocks if (block.columns["splits"] == split).any()})
        if len(views) > 1 or 0 in views or (split != "train" and views not in ([], [1])):
            yield f"{split} has features with {views} views; all rows must have the same number, and only train over 1"


def _label_mistakes(labels: NDArray[Any], classes: Sequence[str]) -> Iterator[str]:
    if labels.dtype.kind == "U":
        unknown = sorted({str(name) for name in np.unique(labels)} - {*classes})
        for name in unknown[:MAX_SHOWN]:
            yield f"label {name!r} is not a class; {nearest(name, classes)}"
    elif len(labels) and not (labels.min() >= 0 and labels.max() < len(classes)):
        yield f"labels go from {labels.min()} to {labels.max()}, but there are {len(classes)} classes, starting at 0"


def _select_split(
    split: Split, blocks: Sequence[RowBlock], label_of_name: Mapping[str, int], dim: int, request: ImportRequest
) -> SplitArrays:
    """Return all rows of one split; rows without ids are named by their number in it."""
    selection = []
    for block in blocks:
        rows = np.flatnonzero(block.columns["splits"] == split)
        if len(rows):
            selection.append((block, rows))
    if not selection:
        return SplitArrays(np.empty((0, 1, dim), np.float16), np.empty(0, np.int32), np.empty(0, np.bool_), ())

    def column(name: str) -> NDArray[Any] | None:
        if not all(name in block.columns for block, _ in selection):
            return None
        return np.concatenate([block.columns[name][rows] for block, rows in selection])

    features = np.concatenate([block.features[rows] for block, rows in selection])
    labels, valid, ids = column("labels"), column("valid"), column("ids")
    if valid is None:
        valid = np.ones(len(features), np.bool_)
    if ids is None:
        names = [f"{split}/{row:07}" for row in range(len(features))]
    else:
        names = [str(name).lstrip("/") for name in ids.tolist()]

    # A label is a class name or already a number.
    values = [] if labels is None else labels.tolist()
    numbers = [label_of_name[value] if isinstance(value, str) else value for value in values]
    return SplitArrays(
        features=_to_float16(features, valid, split, request),
        labels=np.array(numbers, np.int32),
        valid=valid,
        ids=tuple(names),
    )


def _to_float16(
    values: NDArray[Any], valid: NDArray[np.bool_], split: Split, request: ImportRequest
) -> NDArray[np.float16]:
    """Return the values as float16: unchanged, or rounded on request; check that each view is finite and not zero."""
    if values.dtype != np.float16 and not request.to_float16:
        raise InputError(
            f"{request.source}: features are {values.dtype}, but a store holds float16. Pass --to-float16 to round "
            "them, by at most 0.05 % of each value"
        )

    # Values beyond float16's range become infinite here, and are reported below.
    with np.errstate(over="ignore", under="ignore"):
        rounded = values.astype("<f2")
    wrong = np.flatnonzero(valid & ~np.isfinite(rounded).all(axis=(1, 2)))
    if len(wrong):
        kind = "beyond float16's 65,504, or not finite" if values.dtype != np.float16 else "not finite"
        raise InputError(
            f"{request.source}: values of {len(wrong):,} rows of {split} are {kind}, the first is row {wrong[0]}"
        )
    empty = np.flatnonzero(valid & (rounded == 0).all(axis=2).any(axis=1))
    if len(empty):
        raise InputError(
            f"{request.source}: {len(empty):,} rows of {split} are zero, which is no feature, the first is row "
            f"{empty[0]}. Leave out images that have none"
        )
    return rounded
