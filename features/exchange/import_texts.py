"""Import text features of classes that another program computed, for an encoder without a text tower here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError, nearest, raise_all
from features.exchange.formats.base import format_of
from features.formats.tensors import read_tensors
from features.index import ClassNames
from features.splits.own_images import read_names_file
from features.text.classes import ClassTexts

IMPORTED = "imported"  # the template in whose place the texts of the other program stand
EXPECTED = "a file with features (C, D) and their class names as labels, or --classes with one name per line"


def read_class_texts(source: Path, classes: Path | None, names: ClassNames, **encoder: Any) -> ClassTexts:
    """Read the text feature of each class of a data set.

    Args:
        source: a file of features (C, D): .npy, .npz, .pt, .safetensors, .h5 or .parquet. In all but the first and the
            fourth, `labels` may hold the names.
        classes: a text file with the name of each row, or None.
        names: the classes of the data set; a file may have more.
        encoder: `logit_scale`, `encoder` and `weights_sha256` of `ClassTexts`.

    Raises:
        InputError: the file cannot be read, has no names or other numbers of names and rows, rows that are not finite
            or zero, or lacks classes; all of them are listed.
    """
    values, labels = _read(source)
    given = read_names_file(classes) if classes is not None else labels
    if given is None:
        raise InputError(f"{source} has no class names; expected {EXPECTED}")
    if values.ndim != 2 or len(values) != len(given):
        raise InputError(f"{source}: features {values.shape} for {len(given)} class names; expected {EXPECTED}")

    row_of = {name: row for row, name in enumerate(given)}
    repeated = sorted({name for name in given if given.count(name) > 1})
    broken = [name for name, row in row_of.items() if not np.isfinite(values[row]).all() or not values[row].any()]
    problems = [f"{name!r} is there more than once" for name in repeated]
    problems += [f"the feature of {name!r} is zero, NaN or infinite" for name in broken]
    problems += [f"{name!r} is missing; {nearest(name, given)}" for name in names.classes if name not in row_of]
    raise_all(problems, f"{source} does not have one feature for each class of the data set")

    features = values[[row_of[name] for name in names.classes]].astype(np.float32)
    return ClassTexts(
        names=names.classes,
        templates=(IMPORTED,),
        tokens=np.zeros((len(names.classes), 0), np.int64),
        text_features=features[None],
        missing=names.missing,
        **encoder,
    )


def _read(source: Path) -> tuple[NDArray[Any], Sequence[str] | None]:
    """Return the features (C, D) of a file, and their names if it has them."""
    if source.suffix.lower() == ".safetensors":
        tensors, _ = read_tensors(source, own=False)
        if "features" not in tensors and len(tensors) != 1:
            raise InputError(f"{source} has the tensors {', '.join(tensors)}; expected one, called features")
        return tensors.get("features", next(iter(tensors.values()))).float().numpy(), None

    blocks = format_of(source).read(source, {}).blocks
    labels = [block.columns.get("labels") for block in blocks]
    names = [str(name) for part in labels if part is not None and part.dtype.kind == "U" for name in part]
    return np.concatenate([np.asarray(block.features) for block in blocks]), names or None
