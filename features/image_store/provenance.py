"""Provenance of image features: the part of a store's `meta.json` that goes along with the features everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from features.encoding.images import Reading
from features.formats.files import canonical_json
from features.settings import Settings

FORMAT = "shipyard-image-features/1"
CHECKSUM = "sha256"  # key of meta.json for the checksum of all its other keys


class Origin(Settings):
    """The file that features were imported from.

    Attributes:
        suffix: suffix of the file, "" for a folder.
        sha256: checksum of the file.
        dtype: type of its numbers.
    """

    suffix: str
    sha256: str
    dtype: str


class Provenance(Settings):
    """The encoder and the settings that made image features.

    Attributes:
        format: version of the store's layout.
        encoder: name of the encoder in `params.yaml`.
        weights_sha256: identity of its weights (`features.encoding.encoder`).
        preprocess: the fields of `features.encoding.augment.Preprocess`.
        precision: of the forward pass.
        views: number of random views of a training image in each family; view 0, the centre crop, is not counted.
        view_scale, view_seed: settings of these views.
        view_families: name -> area of the other families, each of as many views; left out if there are none.
        imported: origin of features that were not extracted by this project. Then preprocess, precision and view_scale
            are empty, which means unknown.
        upright, levels: fields of `features.encoding.images.Reading`; left out if images were read as in the papers.
    """

    format: Literal["shipyard-image-features/1"]
    encoder: str
    weights_sha256: str
    preprocess: dict[str, Any]
    precision: str
    views: Annotated[int, Field(ge=0)]
    view_scale: list[float]
    view_seed: int
    view_families: dict[str, Annotated[list[float], Field(min_length=2, max_length=2)]] = Field(default_factory=dict)
    imported: Origin | None = None
    upright: bool = False
    levels: list[float] | None = None

    @property
    def reading(self) -> Reading:
        """Return how the pixels of the images were read."""
        return Reading.from_provenance({"upright": self.upright, "levels": self.levels})


def with_checksum(metadata: Mapping[str, Any]) -> str:
    """Return the text of `meta.json`: the metadata, and the sha256 of their canonical JSON."""
    checksum = hashlib.sha256(canonical_json(metadata).encode()).hexdigest()
    return canonical_json({**metadata, CHECKSUM: checksum})
