"""Features as other programs keep them, and the contract of a format: a file for each suffix or program."""

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

FIELDS = ("features", "labels", "splits", "ids", "valid")  # what the arrays and columns are called in every format
REMEDY = "get it anew, or convert it with the program that made it"
KEY = "shipyard"  # under which an export keeps a JSON text with what its arrays do not say


@dataclass(frozen=True, eq=False)
class RowBlock:
    """Consecutive rows with the same number of views.

    Attributes:
        features: (N, D) or (N, K, D) floats, view 0 the centre crop.
        columns: what is known of `labels` (class ids or names), `splits`, `ids` (texts) and `valid` (bool), each (N,).
    """

    features: NDArray[Any]
    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True, eq=False)
class FeatureFile:
    """What a file holds.

    Attributes:
        blocks: in the file's order. classes: names by class id, where the file has them.
        facts: of an export: the fields of `features.image_store.store.Meta` that say which encoder made the features.
    """

    blocks: Sequence[RowBlock]
    classes: Sequence[str] | None = None
    facts: Mapping[str, Any] | None = None

    def splits(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Of an export, which has a block a split: the arrays of each split by name."""
        return {
            str(block.columns["splits"][0]): {
                "features": block.features,
                **{name: values for name, values in block.columns.items() if name != "splits"},
            }
            for block in self.blocks
            if len(block)
        }


class Format(ABC):
    """A format that can be read, and perhaps written."""

    def files(self, source: Path) -> list[Path]:
        """Every file that `read` reads."""
        return [source]

    @abstractmethod
    def read(self, source: Path, keys: Mapping[str, str]) -> FeatureFile:
        """Read a file or folder; `keys` says under which names it has some of `FIELDS`.

        Raises:
            InputError: not of this format, damaged, or without features.
        """

    def write(self, content: FeatureFile, out: Path) -> None:  # noqa: ARG002 (for those that write)
        """Write a new file.

        Raises:
            InputError: the format is only read.
        """
        raise InputError(f"{out}: this format is only read; write to .h5, .parquet or .npz")


def format_of(path: Path) -> Format:
    """The format of a file, by its suffix, or of a folder, by what lies in it.

    Raises:
        InputError: none of the known ones.
    """
    known = names(features.exchange.formats)
    name = path.suffix.lower().removeprefix(".")
    if path.is_dir():
        name = "clip_retrieval" if any(path.glob("**/img_emb_*.npy")) else "pt"
    elif name not in known or name == "clip_retrieval":
        raise InputError(
            f"{path}: a file of features ends in one of {', '.join(f'.{k}' for k in known if k != 'clip_retrieval')}; "
            "a folder is clip-retrieval's (img_emb_*.npy) or CLIP_benchmark's (features_*.pt)"
        )
    return find(features.exchange.formats, name, Format)()


def metadata_json(content: FeatureFile) -> str:
    """What an export keeps under `KEY`."""
    return json.dumps({"classes": content.classes, "facts": content.facts}, ensure_ascii=False)


def parse_metadata(text: str | bytes, where: str) -> tuple[list[str] | None, dict[str, Any] | None]:
    """Class names and facts from what `note` made.

    Raises:
        InputError: they are not what an export holds.
    """
    found = parse(ExportMetadata, json.loads(text), where)
    return found.classes, found.facts.model_dump(mode="json", exclude_unset=True)


class ExportMetadata(Settings):
    """What an export says beside its arrays."""

    classes: list[str] | None
    facts: Provenance


def names_in_file(keys: Mapping[str, str]) -> dict[str, str]:
    """What each of `FIELDS` is called in the file.

    Raises:
        InputError: `keys` names another field.
    """
    raise_all([f"{key!r} is none; {nearest(key, FIELDS)}" for key in keys if key not in FIELDS], "--key cannot be used")
    return {field: keys.get(field, field) for field in FIELDS}


def block_of(arrays: Mapping[str, NDArray[Any]], keys: Mapping[str, str], where: str, split: Split | None) -> RowBlock:
    """Arrays by their names in the file as a block, all of whose rows are of `split`, if that is given.

    Raises:
        InputError: lists every array that is missing, of another length, or of a kind that it cannot have.
    """
    called = names_in_file(keys)
    absent = [called[field] for field in ("features", *keys) if called[field] not in arrays]
    raise_all(
        [f"no {name!r}; {nearest(name, list(arrays))}" for name in dict.fromkeys(absent)],
        f"{where}: arrays are missing; `--key features=<name>` says what they are called",
    )
    columns = {field: np.asarray(arrays[name]) for field, name in called.items() if name in arrays}
    found = columns.pop("features")
    columns = {field: values.reshape(-1) for field, values in columns.items()}
    if split is not None:
        columns["splits"] = np.full(len(found) if found.ndim else 0, split)
    raise_all(list(_wrong(found, columns, called)), f"{where} cannot be used")
    return RowBlock(found, columns)


def _wrong(found: NDArray[Any], columns: Mapping[str, NDArray[Any]], called: Mapping[str, str]) -> Sequence[str]:
    kinds = {"labels": "iuU", "splits": "U", "ids": "iuU", "valid": "b"}
    problems = []
    if found.dtype.kind != "f" or found.ndim not in (2, 3):
        problems.append(
            f"{called['features']} is {found.dtype} {found.shape}, not floats (rows, D) or (rows, views, D)"
        )
    for field, values in columns.items():
        if values.dtype.kind not in kinds[field]:
            problems.append(f"{called[field]} is {values.dtype}; {field} are {_said(kinds[field])}")
        elif found.ndim and len(values) != len(found):
            problems.append(f"{called[field]} has {len(values):,} rows, {called['features']} {len(found):,}")
    return problems


def _said(kinds: str) -> str:
    said = {"i": "whole numbers", "U": "texts", "b": "truth values"}
    return " or ".join(said[kind] for kind in kinds if kind in said)


def by_split(members: Sequence[str]) -> Sequence[Split | None]:
    """The splits that have a group of their own, as in an export; else None alone."""
    return [split for split in SPLITS if any(member.startswith(f"{split}/") for member in members)] or [None]
