"""The columns of a table of images, under the names that people and tools give them, and the texts of its cells.

It is a module of its own, so that the extraction of images from archives depends on no other part of reading tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Our name of a column -> other names, of Roboflow, Kaggle, fastai, Hugging Face's imagefolder and Label Studio. The
# first that a table has is taken.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "path": (
        *("path", "file_name", "filename", "fname", "file", "filepath", "file_path"),
        *("image", "image_path", "image_name", "img", "image_id", "imageid", "id", "name"),
    ),
    "label": ("label", "class", "class_name", "classname", "category", "choice", "species", "target", "labels"),
    "split": ("split", "set", "subset", "partition"),
    "group": ("group", "subject", "subject_id", "patient", "patient_id", "camera", "camera_id", "burst", "sequence"),
}


def text_of(value: Any) -> str | None:
    """Return a cell as text; None if it is empty."""
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, Mapping):  # an image of a Parquet file of Hugging Face
        value = value.get("path")
    if value is None or (isinstance(value, float) and value != value):  # noqa: PLR0124 (not a number)
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None
