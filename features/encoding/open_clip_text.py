"""Convert the text tower of an open_clip model into this project's `OpenClipTower`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from features.encoding.text_support import POOLS
from features.errors import InputError
from features.text.open_clip_tower import OpenClipConfig, OpenClipTower
from features.text.tokenizer import CLIP, JsonTokenizer, Tokenizer

# Parameters of a block: ours -> open_clip's. Each has a weight and a bias.
BLOCK_LAYERS = {"ln_1": "ln_1", "ln_2": "ln_2", "out": "attn.out_proj", "fc": "mlp.c_fc", "proj": "mlp.c_proj"}


def from_open_clip(
    model: Any, encoder: str, weights_sha256: str, tokenizer: Tokenizer = CLIP, *, strips_end: bool = False
) -> OpenClipTower:
    """Take the text tower out of an open_clip model.

    Args:
        model: open_clip's module.
        encoder: name of the encoder in `params.yaml`.
        weights_sha256: identity of all its weights.
        tokenizer: what the tower was trained with.
        strips_end: whether the tower reads the EOT as padding.

    Raises:
        InputError: the tower is of a kind that `features.encoding.text_support` refuses, or has more weights than that.
    """
    text = model.text if hasattr(model, "text") else model
    if not hasattr(getattr(text, "transformer", None), "resblocks"):
        raise InputError(f"encoder {encoder!r}: the text tower is a {type(text).__name__}, not open_clip's own")

    blocks = text.transformer.resblocks
    first, projection = blocks[0], text.text_projection
    class_token = getattr(text, "cls_emb", None) is not None
    config = OpenClipConfig(
        width=text.token_embedding.embedding_dim,
        heads=first.attn.num_heads,
        layers=len(blocks),
        embed_dim=_embed_dim(text),
        context_length=text.context_length,
        vocabulary=text.token_embedding.num_embeddings,
        mlp_width=first.mlp.c_fc.out_features,
        quick_gelu=type(first.mlp.gelu).__name__ == "QuickGELU",
        logit_scale=float(model.logit_scale.detach().exp()),
        encoder=encoder,
        weights_sha256=weights_sha256,
        causal=getattr(text, "attn_mask", None) is not None,
        pool="class_token" if class_token else POOLS[getattr(text, "text_pool_type", getattr(text, "pool_type", ""))],
        pad=tokenizer.pad if isinstance(tokenizer, JsonTokenizer) else 0,
        mapped_to_pad=tokenizer.encode("")[-1] if strips_end else None,
        gelu_tanh=getattr(first.mlp.gelu, "approximate", "none") == "tanh",
        norm_eps=text.ln_final.eps,
        projection=_projection(projection),
        logit_bias=None if getattr(model, "logit_bias", None) is None else float(model.logit_bias.detach()),
    )
    tower = OpenClipTower(config, tokenizer)
    tower.load_state_dict(_state(text, config, encoder))
    return tower.freeze()


def _embed_dim(text: Any) -> int:
    projection = text.text_projection
    if projection is None:
        return int(text.token_embedding.embedding_dim)
    return int(projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1])


def _projection(projection: Any) -> Any:
    if projection is None:
        return "none"
    return "matrix_and_bias" if getattr(projection, "bias", None) is not None else "matrix"


def _state(text: Any, config: OpenClipConfig, encoder: str) -> dict[str, Tensor]:
    """Return our parameters, each taken from open_clip's; none of open_clip's may be left over."""
    given = {name: value for name, value in text.state_dict().items() if not name.startswith("visual.")}
    given.pop("logit_scale", None)
    given.pop("logit_bias", None)

    state = {ours: given.pop(theirs) for ours, theirs in _parameter_names(config).items()}
    if isinstance(text.text_projection, nn.Linear):
        state["text_projection"] = given.pop("text_projection.weight").T.contiguous()
        if config.projection == "matrix_and_bias":
            state["projection_bias"] = given.pop("text_projection.bias")

    if given:
        raise InputError(f"encoder {encoder!r}: the text tower has weights of an unknown kind: {', '.join(given)}")
    return {name: torch.as_tensor(value) for name, value in state.items()}


def _parameter_names(config: OpenClipConfig) -> dict[str, str]:
    """Map our parameter names to open_clip's."""
    same = ["token_embedding.weight", "positional_embedding", "ln_final.weight", "ln_final.bias"]
    names = {name: name for name in same}
    if config.projection == "matrix":
        names["text_projection"] = "text_projection"
    if config.pool == "class_token":
        names["class_embedding"] = "cls_emb"

    for i in range(config.layers):
        ours, theirs = f"blocks.{i}", f"transformer.resblocks.{i}"
        for kind in ("weight", "bias"):
            # nn.MultiheadAttention has no submodule for its input projection.
            names[f"{ours}.qkv.{kind}"] = f"{theirs}.attn.in_proj_{kind}"
            names |= {f"{ours}.{a}.{kind}": f"{theirs}.{b}.{kind}" for a, b in BLOCK_LAYERS.items()}
    return names
