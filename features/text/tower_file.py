"""The file of a text tower, which every later stage reads: weights, shape and tokenizer, without the encoder."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path

import torch
from pydantic import TypeAdapter
from torch import Tensor

from features.errors import InputError
from features.formats.tensors import read_tensors, save_tensors
from features.formats.untrusted import wrap_parser_errors
from features.text.hugging_face import HuggingFaceConfig, HuggingFaceTower
from features.text.open_clip_tower import OpenClipConfig, OpenClipTower
from features.text.text_tower import TextTower
from features.text.tokenizer import Tokenizer, tokenizer_from_file, tokenizer_to_file

FIX_HINT = "recreate it with `dvc repro text_tower`"
OPEN_CLIP, HUGGING_FACE, ABSENT = "config", "hugging_face", "absent"  # keys of the metadata


def save_tower(tower: TextTower, path: Path) -> None:
    """Write the tower and its tokenizer to one safetensors file, which can be read without the encoder."""
    # Without the defaults, which are CLIP's, so that a later field changes no byte of CLIP's towers.
    defaults = {field.name: field.default for field in fields(tower.config)}
    config = {name: value for name, value in asdict(tower.config).items() if value != defaults[name]}
    kind = HUGGING_FACE if isinstance(tower, HuggingFaceTower) else OPEN_CLIP
    metadata = {kind: json.dumps(config, sort_keys=True)}

    tensors, settings = tokenizer_to_file(tower.tokenizer)
    save_tensors({**tower.state_dict(), **tensors}, path, **metadata, **settings)


def save_absent_tower(path: Path, encoder: str) -> None:
    """Write the file in place of a tower, for an encoder whose class texts are imported."""
    save_tensors({}, path, **{ABSENT: encoder})


def load_tower(path: Path) -> TextTower:
    """Read a tower that `save_tower` wrote; it is frozen and on the CPU.

    Raises:
        InputError: the file does not exist, was not written by `save_tower`, or stands for an encoder without a tower;
            or the tower is one of transformers, which is not installed.
    """
    state, metadata = read_tensors(path)
    if ABSENT in metadata:
        raise InputError(
            f"encoder {metadata[ABSENT]!r} has no text tower: its class texts are imported, so nothing can be encoded"
        )
    with wrap_parser_errors(path, FIX_HINT):
        tokenizer = tokenizer_from_file(state, metadata)
        if HUGGING_FACE in metadata:
            config = TypeAdapter(HuggingFaceConfig).validate_json(metadata[HUGGING_FACE], strict=True)
            tower: TextTower = HuggingFaceTower(config, tokenizer)
            tower.load_state_dict(state)
            return tower.freeze()
        return _open_clip_tower(metadata[OPEN_CLIP], tokenizer, state, path).freeze()


def _open_clip_tower(values: str, tokenizer: Tokenizer, state: dict[str, Tensor], path: Path) -> OpenClipTower:
    config = TypeAdapter(OpenClipConfig).validate_json(values, strict=True)
    blocks = {name.split(".")[1] for name in state if name.startswith("blocks.")}
    if len(blocks) != config.layers or config.heads < 1:
        raise InputError(
            f"{path}: {len(blocks)} blocks do not match its config: {config.layers} layers, {config.heads} heads"
        )

    # On "meta" the new parameters take no memory and no time; the file's tensors take their place.
    with torch.device("meta"):
        tower = OpenClipTower(config, tokenizer)
    tower.load_state_dict(state, assign=True)
    return tower


def tower_weights(path: Path) -> str | None:
    """Return the identity of the weights that a file's text tower belongs to; None if it stands for no tower.

    Raises:
        InputError: the file does not exist, or was not written by this project.
    """
    _, metadata = read_tensors(path)
    if ABSENT in metadata:
        return None
    with wrap_parser_errors(path, FIX_HINT):
        config = json.loads(metadata.get(OPEN_CLIP) or metadata[HUGGING_FACE])
        return str(config["weights_sha256"])
