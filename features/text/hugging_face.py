"""Text towers of Hugging Face's transformers (RoBERTa, mT5, NLLB), which encode class names.

They have no place for learned vectors here, so they are used for class texts alone: zero-shot, and every method that
learns no prompts. open_clip's own adapter computes them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from features.formats.tensors import read_tensors, save_tensors
from features.formats.untrusted import wrap_parser_errors
from features.runtime.lazy_open_clip import import_hugging_face
from features.text.text_tower import FIX_HINT, HUGGING_FACE, TextTower, load_tower
from features.text.tokenizer import Tokenizer, text_lengths, tokenizer_from_file, tokenizer_to_file


@dataclass(frozen=True)
class HuggingFaceConfig:
    """Shape of such a tower, and the encoder it belongs to.

    Attributes:
        transformer: text of the transformer's own `config.json`.
        pooler: open_clip's name of the way from all rows to one (`hf_pooler_type`).
        projection: open_clip's name of the layers after that (`hf_proj_type`), or None.
        embed_dim: D, the dimensions of a text feature.
        context_length: the most tokens of a text.
        logit_scale, logit_bias, encoder, weights_sha256: as in `features.text.text_tower.TowerConfig`.
    """

    transformer: str
    pooler: str | None
    projection: str | None
    embed_dim: int
    context_length: int
    logit_scale: float
    encoder: str
    weights_sha256: str
    logit_bias: float | None = None


class HuggingFaceTower:
    """A frozen text tower of transformers with its tokenizer, on the CPU."""

    def __init__(self, config: HuggingFaceConfig, tokenizer: Tokenizer, state: dict[str, Tensor]) -> None:
        self.config, self.tokenizer = config, tokenizer
        with TemporaryDirectory() as folder:  # transformers reads a configuration from a file
            (Path(folder) / "config.json").write_text(config.transformer, encoding="utf-8")
            self.module: Any = import_hugging_face().HFTextEncoder(
                folder, config.embed_dim, pooler_type=config.pooler, proj_type=config.projection, pretrained=False
            )
        self.module.load_state_dict(state)
        self.module.float().eval().requires_grad_(False)

    def encode(self, tokens: Tensor) -> Tensor:
        """Encode tokens (C, T) of the tower's tokenizer as features (C, D), not normalised."""
        is_text = torch.arange(tokens.shape[-1]) < text_lengths(tokens)[:, None]
        encoded = self.module(torch.where(is_text, tokens, self.module.config.pad_token_id))
        features: Tensor = encoded[0] if isinstance(encoded, tuple) else encoded  # CoCa's gives its states, too
        return features


def save_hugging_face(tower: HuggingFaceTower, path: Path) -> None:
    """Write the tower and its tokenizer to one safetensors file."""
    tensors, settings = tokenizer_to_file(tower.tokenizer)
    metadata = {HUGGING_FACE: json.dumps(asdict(tower.config), sort_keys=True), **settings}
    save_tensors({**tower.module.state_dict(), **tensors}, path, **metadata)


def load_text_encoder(path: Path) -> TextTower | HuggingFaceTower:
    """Read a text tower of either kind, to encode class names.

    Raises:
        InputError: the file does not exist or is no text tower, or transformers is not installed.
    """
    state, metadata = read_tensors(path)
    if HUGGING_FACE not in metadata:
        return load_tower(path)
    with wrap_parser_errors(path, FIX_HINT):
        config = TypeAdapter(HuggingFaceConfig).validate_json(metadata[HUGGING_FACE], strict=True)
        tokenizer = tokenizer_from_file(state, metadata)
        return HuggingFaceTower(config, tokenizer, state)
