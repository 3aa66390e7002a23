"""Convert the text tower of an open_clip model into this project's `TextTower`."""

from __future__ import annotations

from typing import Any

from torch import nn

from features.errors import InputError, raise_all
from features.text.text_tower import TextTower, TowerConfig

# Parameters of a block: ours -> open_clip's. Each has a weight and a bias.
BLOCK_LAYERS = {"ln_1": "ln_1", "ln_2": "ln_2", "out": "attn.out_proj", "fc": "mlp.c_fc", "proj": "mlp.c_proj"}


def from_open_clip(model: Any, encoder: str, weights_sha256: str) -> TextTower:
    """Take the text tower out of an open_clip model.

    Raises:
        InputError: the tower is not a causal transformer with EOT pooling (such as SigLIP's and Hugging Face's); lists
            every difference.
    """
    text = model.text if hasattr(model, "text") else model
    _check_supported(text, encoder)

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
    state = text.state_dict()
    tower.load_state_dict({ours: state[theirs] for ours, theirs in _parameter_names(config.layers).items()})
    return tower.freeze()


def _check_supported(text: Any, encoder: str) -> None:
    rule = "supported are open_clip's own causal text transformers with EOT pooling, such as OpenAI's and LAION's CLIPs"
    if not hasattr(getattr(text, "transformer", None), "resblocks"):
        raise InputError(f"encoder {encoder!r}: the text tower is a {type(text).__name__}; {rule}")

    block = text.transformer.resblocks[0]
    pool = getattr(text, "text_pool_type", getattr(text, "pool_type", None))
    differences = {
        "its attention is not causal": getattr(text, "attn_mask", None) is None,
        f"it pools at {pool!r}, not at the EOT": pool != "argmax",
        f"its blocks are {type(block).__name__}": type(block).__name__ != "ResidualAttentionBlock",
        "its blocks scale their layers": type(getattr(block, "ls_1", None)).__name__ != "Identity",
        "its projection is not a plain matrix": not isinstance(text.text_projection, nn.Parameter),
        "it embeds a class token": getattr(text, "cls_emb", None) is not None,
    }
    problems = [difference for difference, holds in differences.items() if holds]
    raise_all(problems, f"encoder {encoder!r}: the text tower is not supported; {rule}")


def _parameter_names(layers: int) -> dict[str, str]:
    """Map our parameter names to open_clip's."""
    same = ("token_embedding.weight", "positional_embedding", "text_projection", "ln_final.weight", "ln_final.bias")
    names = {name: name for name in same}
    for i in range(layers):
        ours, theirs = f"blocks.{i}", f"transformer.resblocks.{i}"
        for kind in ("weight", "bias"):
            # nn.MultiheadAttention has no submodule for its input projection.
            names[f"{ours}.qkv.{kind}"] = f"{theirs}.attn.in_proj_{kind}"
            names |= {f"{ours}.{a}.{kind}": f"{theirs}.{b}.{kind}" for a, b in BLOCK_LAYERS.items()}
    return names
