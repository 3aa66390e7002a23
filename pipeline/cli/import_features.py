"""Import of features into this project: names, paths, the check against the encoder, and the next commands."""

from __future__ import annotations

import os
import re
from pathlib import Path

from features.errors import InputError, are, nearest
from features.exchange.importer import Imported, read_features, save_features
from features.exchange.rows import ImportRequest
from features.text.tower_file import tower_weights
from pipeline.artifacts import paths
from pipeline.config import params


def import_dataset(request: ImportRequest) -> str:
    """Write the store and the index of a new data set, and return a text with the next steps.

    Raises:
        InputError: the name is invalid or exists, the encoder is unknown, or its text tower has other weights than the
            features; also every error of `features.exchange.importer.read_features`.
    """
    table, names = paths.index(request.dataset), paths.names(request.dataset)
    if not re.fullmatch(params.NAME, request.dataset):
        raise InputError(
            f"invalid data set name {request.dataset!r}: expected letters, digits, _, - and ., starting with a letter "
            "or a digit"
        )
    _check_new(table, names)
    if request.encoder and not request.weights_sha256:
        _require_weights(request.encoder)

    imported = read_features(request)
    encoder = str(imported.provenance["encoder"])
    _check_weights(imported, encoder)

    store = paths.EncoderPaths(paths.ROOT / encoder).features(request.dataset)
    _check_new(store)
    save_features(imported, store=store, table=table, names=names, scratch=paths.SCRATCH)

    counts = ", ".join(f"{len(part.labels):,} {split}" for split, part in imported.splits.items())
    return (
        f"{store}: {counts}, {len(imported.listing.classes)} classes\n"
        f"next, in {params.PATH}: under data.sets   {request.dataset}: {{reader: imported}}\n"
        f"and in the shell:       dvc repro code   (the digests of the code, which the next command records)\n"
        f"                        dvc commit --force index@{request.dataset} extract@{request.dataset}   "
        f"(with grid.datasets: [{request.dataset}])\n"
        f"                        shipyard run {request.dataset}"
    )


def _check_new(*outputs: Path) -> None:
    """Check that nothing stands where the import is to be written."""
    if there := [str(path) for path in outputs if os.path.lexists(path)]:
        raise InputError(
            f"DATASET: {' and '.join(there)} already {are(len(there), 'exists', 'exist')}; use another name, "
            "or move it away"
        )


def _require_weights(encoder: str) -> None:
    """Raise an error that shows the SHA-256 of the encoder's text tower, if the project has one.

    The weights that produced the features are never assumed, because the file cannot show a wrong assumption.
    """
    tower = paths.EncoderPaths(paths.ROOT / encoder).text_tower
    sha256 = tower_weights(tower) if tower.exists() else None
    if sha256 is not None:
        raise InputError(
            f"--weights-sha256 is missing. If the weights of {tower} produced these features, add: "
            f"--weights-sha256 {sha256}"
        )


def _check_weights(imported: Imported, encoder: str) -> None:
    """Check that the encoder is known, and that its text tower, if it exists, has the weights of the features."""
    known = params.load().encoders
    if encoder not in known:
        raise InputError(f"encoder {encoder!r} is not in `encoders` of {params.PATH}; {nearest(encoder, known)}")

    tower = paths.EncoderPaths(paths.ROOT / encoder).text_tower
    tower_sha256 = tower_weights(tower) if tower.exists() else None
    features_sha256 = imported.provenance["weights_sha256"]
    if tower_sha256 not in (None, features_sha256):
        raise InputError(
            f"different weights: the features have SHA-256 {features_sha256[:12]}, {tower} has {tower_sha256[:12]}. "
            "Image and text features of different weights cannot be compared"
        )
