"""What made image features: the part of a store's `meta.json` that travels with them wherever they go."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from features.formats.files import canonical_json
from features.settings import Settings

FORMAT = "shipyard-image-features/1"
CHECKSUM = "sha256"  # key in meta.json: of all the others


class Origin(Settings):
    """The file that features were imported from: its suffix ("" of a folder), sha256 and type of numbers."""

    suffix: str
    sha256: str
    dtype: str


class Provenance(Settings):
    """What made the features.

    Attributes:
        encoder: its name in `params.yaml`. weights_sha256: of its weights (`features.encoding.encoder`).
        preprocess: the fields of `features.encoding.augment.Preprocess`. precision: of the forward pass.
        views: random views of a training image, beside view 0; view_scale and view_seed say which.
        imported: where features that were not extracted here came from; then preprocess, precision and view_scale are
            empty, for unknown.
    """

    format: Literal["shipyard-image-features/1"]
    encoder: str
    weights_sha256: str
    preprocess: dict[str, Any]
    precision: str
    views: Annotated[int, Field(ge=0)]
    view_scale: list[float]
    view_seed: int
    imported: Origin | None = None


def with_checksum(facts: Mapping[str, Any]) -> str:
    """The text of `meta.json`: the facts, and the sha256 of their own text."""
    return canonical_json({**facts, CHECKSUM: hashlib.sha256(canonical_json(facts).encode()).hexdigest()})
