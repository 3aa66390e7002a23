"""The text tower of an open_clip model, as ours."""

from __future__ import annotations

from typing import Any

from torch import nn

from features.errors import InputError, raise_all
from features.text.text_tower import TextTower, TowerConfig


def from_open_clip(model: Any, encoder: str, weights_sha256: str) -> TextTower:
    """Take the text tower out of an open_clip model.

    Raises:
        InputError: the tower is not a causal transformer with EOT pooling (SigLIP's, Hugging Face's); says what is.
    """
    text = model.text if hasattr(model, "text") else model
    _refuse_unsupported(text, encoder)
    blocks = text.transformer.resblocks
    first = blocks[0]
    config = TowerConfig(
        width=text.token_embedding.embedding_dim,
        heads=first.attn.num_heads,
        layers=len(blocks),
        embed_dim=text.text_projection.shape[1],
        context_length=text.context_length,
        vocabulary=text.token_embedding.num_embeddings,
        mlp_width=first.mlp.c_fc.out_features,
        quick_gelu=type(first.mlp.gelu).__name__ == "QuickGELU",
        logit_scale=float(model.logit_scale.detach().exp()),
        encoder=encoder,
        weights_sha256=weights_sha256,
    )
    tower = TextTower(config)
    tower.load_state_dict({ours: text.state_dict()[theirs] for ours, theirs in _names(config.layers).items()})
    return tower.freeze()


def _refuse_unsupported(text: Any, encoder: str) -> None:
    rule = "supported are open_clip's own causal text transformers with EOT pooling: OpenAI's and LAION's CLIPs"
    if not hasattr(getattr(text, "transformer", None), "resblocks"):
        raise InputError(f"encoder {encoder!r}: its text tower is a {type(text).__name__}; {rule}")
    block = text.transformer.resblocks[0]
    pool = getattr(text, "text_pool_type", getattr(text, "pool_type", None))
    facts = {
        "its attention is not causal": getattr(text, "attn_mask", None) is None,
        f"it pools at {pool!r}, not at the EOT": pool != "argmax",
        f"its blocks are {type(block).__name__}": type(block).__name__ != "ResidualAttentionBlock",
        "its blocks scale their layers": type(getattr(block, "ls_1", None)).__name__ != "Identity",
        "its projection is not a plain matrix": not isinstance(text.text_projection, nn.Parameter),
        "it embeds a class token": getattr(text, "cls_emb", None) is not None,
    }
    raise_all([fact for fact, holds in facts.items() if holds], f"encoder {encoder!r}: {rule}; this one differs")


def _names(layers: int) -> dict[str, str]:
    """Our parameter names -> open_clip's."""
    same = ("token_embedding.weight", "positional_embedding", "text_projection", "ln_final.weight", "ln_final.bias")
    names = {name: name for name in same}
    for i in range(layers):
        ours, theirs = f"blocks.{i}", f"transformer.resblocks.{i}"
        names |= {f"{ours}.qkv.{kind}": f"{theirs}.attn.in_proj_{kind}" for kind in ("weight", "bias")}
        pairs = {"ln_1": "ln_1", "ln_2": "ln_2", "out": "attn.out_proj", "fc": "mlp.c_fc", "proj": "mlp.c_proj"}
        names |= {f"{ours}.{a}.{kind}": f"{theirs}.{b}.{kind}" for a, b in pairs.items() for kind in ("weight", "bias")}
    return names
