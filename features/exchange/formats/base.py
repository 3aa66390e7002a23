"""Feature files of other programs, and the contract of a format: one module per suffix or program."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import features.exchange.formats
from features.datasets.base import SPLITS, Split
from features.errors import InputError, nearest, raise_all
from features.image_store.provenance import Provenance
from features.lookup import find, names
from features.settings import Settings, parse

FIELDS = ("features", "labels", "splits", "ids", "valid")  # names of arrays and columns in every format
FOLDERS = {"clip_retrieval": "**/img_emb_*.npy", "tip_adapter": "test_f.pt"}  # formats of folders, and their files
FIX_HINT = "get a new copy, or convert it with the program that wrote it"
KEY = "shipyard"  # an export stores a JSON text under this key, with everything that its arrays do not hold

# Kinds of NumPy dtypes that each field may have, and their names in error messages.
KINDS = {"labels": "iuU", "splits": "U", "ids": "iuU", "valid": "b"}
KIND_NAMES = {"i": "whole numbers", "U": "texts", "b": "booleans"}


@dataclass(frozen=True, eq=False)
class RowBlock:
    """Consecutive rows with the same number of views.

    Attributes:
        features: (N, D) or (N, K, D) floats; view 0 is the centre crop.
        columns: (N,) arrays by name; any of `labels` (class ids or names), `splits`, `ids` (texts), `valid` (bool).
    """

    features: NDArray[Any]
    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True, eq=False)
class FeatureFile:
    """The content of a file of features.

    Attributes:
        blocks: All rows, in the file's order.
        classes: Class names by class id, if the file has them.
        provenance: In an export of this project, the fields of `features.image_store.provenance.Provenance`.
    """

    blocks: Sequence[RowBlock]
    classes: Sequence[str] | None = None
    provenance: Mapping[str, Any] | None = None

    def arrays_by_split(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Return the arrays of each split by name. This is for exports, which have one block per split."""
        return {
            str(block.columns["splits"][0]): {
                "features": block.features,
                **{name: values for name, values in block.columns.items() if name != "splits"},
            }
            for block in self.blocks
            if len(block)
        }


class Format(ABC):
    """A file format that can be read, and possibly written."""

    def files(self, source: Path) -> list[Path]:
        """Return every file that `read` opens."""
        return [source]

    @abstractmethod
    def read(self, source: Path, keys: Mapping[str, str]) -> FeatureFile:
        """Read a file or folder.

        Args:
            source: The file or folder.
            keys: Names in the file of some of `FIELDS`, where they differ.

        Raises:
            InputError: The file has another format, is damaged, or has no features.
        """

    def write(self, content: FeatureFile, out: Path) -> None:  # noqa: ARG002 (for formats that override it)
        """Write a new file.

        Raises:
            InputError: This format can only be read.
        """
        raise InputError(f"{out}: this format can only be read; write .h5, .parquet or .npz")


def format_of(path: Path) -> Format:
    """Return the format of a file, by its suffix, or of a folder, by its content.

    Raises:
        InputError: The suffix is unknown.
    """
    known = names(features.exchange.formats)
    name = path.suffix.lower().removeprefix(".")
    if path.is_dir():
        name = next((folder for folder, files in FOLDERS.items() if any(path.glob(files))), "pt")
    elif name not in known or name in FOLDERS:
        suffixes = [f".{suffix}" for suffix in known if suffix not in FOLDERS]
        raise InputError(
            f"{path}: unknown suffix; a file of features ends in one of {', '.join(suffixes)}; a folder is "
            "clip-retrieval's (img_emb_*.npy), CLIP_benchmark's (features_*.pt) or Tip-Adapter's (test_f.pt)"
        )
    return find(features.exchange.formats, name, Format)()


class ExportMetadata(Settings):
    """The JSON text that an export stores under `KEY`. Its field names are part of existing files."""

    classes: list[str] | None
    facts: Provenance


def metadata_json(content: FeatureFile) -> str:
    """Return the JSON text that an export stores under `KEY`."""
    return json.dumps({"classes": content.classes, "facts": content.provenance}, ensure_ascii=False)


def parse_metadata(text: str | bytes, where: str) -> tuple[list[str] | None, dict[str, Any] | None]:
    """Return class names and provenance from a text of `metadata_json`.

    Raises:
        InputError: The text is not the metadata of an export.
    """
    metadata = parse(ExportMetadata, json.loads(text), where)
    return metadata.classes, metadata.facts.model_dump(mode="json", exclude_unset=True)


def names_in_file(keys: Mapping[str, str]) -> dict[str, str]:
    """Return the name in the file of each of `FIELDS`.

    Raises:
        InputError: `keys` has a field that is not in `FIELDS`.
    """
    problems = [f"unknown field {key!r}; {nearest(key, FIELDS)}" for key in keys if key not in FIELDS]
    raise_all(problems, "--key cannot be used")
    return {field: keys.get(field, field) for field in FIELDS}


def block_of(arrays: Mapping[str, NDArray[Any]], keys: Mapping[str, str], where: str, split: Split | None) -> RowBlock:
    """Return a block of the arrays that `FIELDS` names; others are ignored.

    Args:
        arrays: Arrays by their name in the file.
        keys: See `Format.read`.
        where: The place of the arrays, for the error message.
        split: The split of all rows, if it is known.

    Raises:
        InputError: Lists every array that is missing, has another length, or a dtype that it cannot have.
    """
    file_names = names_in_file(keys)
    absent = [file_names[field] for field in ("features", *keys) if file_names[field] not in arrays]
    raise_all(
        [f"no {name!r}; {nearest(name, list(arrays))}" for name in dict.fromkeys(absent)],
        f"{where}: arrays are missing; pass their names with `--key features=<name>`",
    )

    columns = {field: np.asarray(arrays[name]) for field, name in file_names.items() if name in arrays}
    rows = columns.pop("features")
    columns = {field: values.reshape(-1) for field, values in columns.items()}
    if split is not None:
        columns["splits"] = np.full(len(rows) if rows.ndim else 0, split)

    raise_all(_block_problems(rows, columns, file_names), f"{where} cannot be used")
    return RowBlock(rows, columns)


def _block_problems(
    rows: NDArray[Any], columns: Mapping[str, NDArray[Any]], file_names: Mapping[str, str]
) -> Sequence[str]:
    problems = []
    if rows.dtype.kind != "f" or rows.ndim not in (2, 3):
        problems.append(
            f"{file_names['features']} has dtype {rows.dtype} and shape {rows.shape}; expected floats of shape (N, D) "
            "or (N, K, D), with K views"
        )
    for field, values in columns.items():
        if values.dtype.kind not in KINDS[field]:
            expected = " or ".join(KIND_NAMES[kind] for kind in KINDS[field] if kind in KIND_NAMES)
            problems.append(f"{file_names[field]} has dtype {values.dtype}; {field} must be {expected}")
        elif rows.ndim and len(values) != len(rows):
            problems.append(f"{file_names[field]} has {len(values):,} rows, {file_names['features']} {len(rows):,}")
    return problems


def splits_with_group(members: Sequence[str]) -> Sequence[Split | None]:
    """Return the splits that have a group of their own among the paths, as in an export; [None] if there are none."""
    return [split for split in SPLITS if any(member.startswith(f"{split}/") for member in members)] or [None]
