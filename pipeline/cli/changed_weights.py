"""Weights of one's own that changed since features were computed with them.

DVC does not track weights, so it would keep the results of the old ones.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from features.encoding.definition import IMPORTED
from features.errors import InputError
from features.formats.files import canonical_json
from features.formats.seal import read_sealed_json, write_sealed_json
from pipeline.artifacts.paths import SCRATCH, EncoderPaths
from pipeline.config.params import PATH, Params
from pipeline.executor.repository import read_lock_file
from pipeline.executor.up_to_date import states


def check_weights(params: Params) -> None:
    """Check that the encoder's weights, if files on this machine, are those that the features were computed with.

    They are loaded only if a file, its definition or the text tower is not as it was when they were last compared.

    Raises:
        InputError: they are other weights, or cannot be loaded.
    """
    name, spec, tower = params.grid.encoder, params.encoder, EncoderPaths(params.artifacts).text_tower
    files = [str(path) for path in spec.paths if path.exists()]
    if spec.model == IMPORTED or not files or not tower.exists():
        return

    record = SCRATCH / f"weights-{name}.json"
    found = {"definition": spec.model_dump(), "files": states([*files, str(tower)])}
    compared = {"compared": hashlib.sha256(canonical_json(found).encode()).hexdigest()}
    if _recorded(record) == compared or _redefined(params):
        return

    from features.encoding.encoder import load_encoder
    from features.text.tower_file import tower_weights

    theirs, now = tower_weights(tower), load_encoder(name, spec, "cpu").weights_sha256
    if theirs != now:
        raise InputError(
            f"encoders.{name}: the weights in {', '.join(files)} are not those that the features were computed with. "
            f"Their sha256 is {now}; that of {tower} is {theirs}. Restore the old file, or give the new weights an "
            "encoder of their own, or replace the features and the text tower: `dvc repro --force extract text_tower`"
        )
    with suppress(InputError, OSError):  # without the record, the next run compares again
        write_sealed_json(record, compared)


def _recorded(record: Path) -> dict[str, object] | None:
    with suppress(InputError):
        return read_sealed_json(record, "")
    return None


def _redefined(params: Params) -> bool:
    """Return whether the definition has changed since the text tower was made, so that DVC makes it again."""
    stage = read_lock_file()["stages"].get("text_tower", {})
    recorded = stage.get("params", {}).get(str(PATH), {}).get(f"encoders.{params.grid.encoder}")
    return recorded is not None and recorded != params.encoder.model_dump(exclude_unset=True)
