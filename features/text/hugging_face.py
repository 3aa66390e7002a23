"""Text towers of Hugging Face's transformers (RoBERTa, mT5, NLLB), computed by open_clip's own adapter.

They read embeddings in place of token ids, so prompts can be learned with them. Their attention is bidirectional and
leaves the padding out, so prompts are cut to the longest, and no state of a prompt is shared.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from features.runtime.lazy_open_clip import import_hugging_face
from features.text.text_tower import TextTower, TowerConfig
from features.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class HuggingFaceConfig(TowerConfig):
    """Shape of such a tower.

    Attributes:
        transformer: text of the transformer's own `config.json`.
        pooler: open_clip's name of the way from all rows to one (`hf_pooler_type`).
        projection: open_clip's name of the layers after that (`hf_proj_type`), or None.
    """

    transformer: str
    pooler: str | None
    projection: str | None


class HuggingFaceTower(TextTower):
    """A text tower of transformers with its tokenizer."""

    config: HuggingFaceConfig

    def __init__(self, config: HuggingFaceConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        with TemporaryDirectory() as folder:  # transformers reads a configuration from a file
            (Path(folder) / "config.json").write_text(config.transformer, encoding="utf-8")
            self.adapter: Any = import_hugging_face().HFTextEncoder(
                folder, config.embed_dim, pooler_type=config.pooler, proj_type=config.projection, pretrained=False
            )
        self.float()

    @property
    def table(self) -> Tensor:
        """Return the embeddings (V, W) of all tokens, scaled as the transformer scales them."""
        layer = self.adapter.transformer.get_input_embeddings()
        table: Tensor = layer.weight * getattr(layer, "embed_scale", 1)
        return table

    def embed(self, tokens: Tensor) -> Tensor:
        """Embed token ids (...) on the host as (..., W) on the tower's device."""
        embedded: Tensor = self.adapter.transformer.get_input_embeddings()(tokens.to(self.device, non_blocking=True))
        return embedded

    def compute(self, prefix: Tensor, suffix: Tensor, eot: Tensor) -> Tensor:
        """Compute the features (G, C, D) of one pass; see `encode_embedded` for the shapes."""
        g, p, w = prefix.shape
        c, t = suffix.shape[1:3]
        prompts = torch.cat([prefix[:, None].expand(g, c, p, w), suffix], dim=2).flatten(0, 1)  # (G C, P + T, W)

        lengths = (p + eot + 1).flatten().to(prefix.device, non_blocking=True)
        is_prompt = (torch.arange(p + t, device=prefix.device) < lengths[:, None]).long()
        states = self.adapter.transformer(inputs_embeds=prompts, attention_mask=is_prompt)
        features: Tensor = self.adapter.proj(self.adapter.pooler(states, is_prompt))
        return features.view(g, c, -1)
