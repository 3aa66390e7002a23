"""Where imported features go in this project, whose they must be, and what is to be done next."""

from __future__ import annotations

import re

from features.errors import InputError, nearest
from features.exchange.importer import Imported, read_features, save_features
from features.exchange.rows import ImportRequest
from features.text.text_tower import load_tower
from pipeline.artifacts import paths
from pipeline.config import params


def import_dataset(wish: ImportRequest) -> str:
    """Write the store and the index of `wish.dataset`, and say how they enter the pipeline.

    Raises:
        InputError: the name is no name or taken, the encoder unknown, or its text tower of other weights than the
            features; and all that `features.exchange.importer.read_features` refuses.
    """
    table, names = paths.index(wish.dataset), paths.names(wish.dataset)
    if not re.fullmatch(params.NAME, wish.dataset):
        raise InputError(
            f"{wish.dataset!r} cannot name a data set: letters, digits, _, - and . are known, a letter first"
        )
    if table.exists():
        raise InputError(f"{table} is there already: take another name for the data set, or remove it")
    if wish.encoder and not wish.weights_sha256:
        _ask_for_weights(wish.encoder)
    found = read_features(wish)
    encoder = str(found.facts["encoder"])
    _refuse_other_weights(found, encoder)
    store = paths.EncoderPaths(paths.ROOT / encoder).features(wish.dataset)
    save_features(found, store=store, table=table, names=names, scratch=paths.SCRATCH)
    counts = ", ".join(f"{len(part.labels):,} {split}" for split, part in found.parts.items())
    return (
        f"{store}: {counts}, {len(found.listing.classes)} classes\n"
        f"next, in {params.PATH}: under data.sets   {wish.dataset}: {{reader: imported}}\n"
        f"and in the shell:       dvc commit --force index@{wish.dataset} extract@{wish.dataset}   "
        f"(with grid.datasets: [{wish.dataset}])\n"
        f"                        shipyard run {wish.dataset}"
    )


def _ask_for_weights(encoder: str) -> None:
    """Refuse to guess whose features they are, but say what the text tower in use is of."""
    tower = paths.EncoderPaths(paths.ROOT / encoder).text_tower
    if tower.exists():
        sha = load_tower(tower).config.weights_sha256
        raise InputError(
            "--weights-sha256 is not given. If you know that the very weights of "
            f"{tower} made these features, say so: --weights-sha256 {sha}"
        )


def _refuse_other_weights(found: Imported, encoder: str) -> None:
    """See that the encoder is known, and that its text tower, where it has been made, is of the same weights."""
    known = params.load().encoders
    if encoder not in known:
        raise InputError(f"encoder {encoder!r} is not in `encoders` of {params.PATH}; {nearest(encoder, known)}")
    tower = paths.EncoderPaths(paths.ROOT / encoder).text_tower
    if tower.exists() and (sha := load_tower(tower).config.weights_sha256) != found.facts["weights_sha256"]:
        raise InputError(
            f"the features are of weights {found.facts['weights_sha256'][:12]}, but {tower} is of {sha[:12]}: a text "
            "of one encoder says nothing of an image of another"
        )
