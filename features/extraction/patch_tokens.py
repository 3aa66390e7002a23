"""Patch tokens: local features of an image, one for each patch, in the space that images share with texts.

CLIP trains the pooled feature alone. Patch tokens are the values that are pooled, brought to the same D dimensions:

- open_clip's ViT: the last block's patch tokens, through the final norm and the projection.
- open_clip's ResNet: each position of the attention pool as a query of its own, as in PLOT's code (Chen et al. 2023).
- timm's convolutional networks that pool by an average and project by one layer: the layer at each position. Their mean
  is the pooled feature.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from features.encoding.encoder import Encoder
from features.errors import InputError
from features.runtime.devices import Precision, autocast

Encode = Callable[[Any, Tensor], tuple[Tensor, Tensor]]


def patches_per_image(encoder: Encoder) -> int:
    """Return P, the number of patch tokens of a crop, by encoding a blank one.

    Raises:
        InputError: patch tokens of this encoder's image tower are not supported.
    """
    height, width = encoder.preprocess.size
    blank = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    return encode_with_patches(encoder, blank)[1].shape[1]


def encode_with_patches(encoder: Encoder, crops: Tensor, precision: Precision = "float32") -> tuple[Tensor, Tensor]:
    """Encode crops (N, height, width, 3) uint8 as (N, D) features and (N, P, D) patch tokens.

    Both are float32 and not normalized.

    Raises:
        InputError: patch tokens of this encoder's image tower are not supported.
    """
    visual: Any = encoder.model.visual
    encode = _encode_function(visual)
    if encode is None:
        raise InputError(
            f"encoder {encoder.name!r}: no patch tokens in the space of its features are known for its image tower, a "
            f"{type(visual).__name__}. Supported: open_clip's own ViTs without an attention pool, its ResNets, and "
            "timm's convolutional networks with average pooling. Set extract.patch_tokens: false, or another encoder"
        )
    with torch.inference_mode(), autocast(encoder.device, precision):
        features, patches = encode(visual, encoder.normalize(crops))
        return features.float(), patches.float()


def _encode_function(visual: Any) -> Encode | None:
    """Return the function for this kind of image tower, or None if it is not supported."""
    kind = type(visual).__name__
    if kind == "VisionTransformer" and visual.attn_pool is None and not visual.final_ln_after_pool:
        return _vit if visual.pool_type in {"tok", "avg"} and visual.proj is not None else None
    if kind == "ModifiedResNet":
        return _resnet
    if kind == "TimmModel":
        pool = getattr(getattr(visual, "trunk", None), "global_pool", None)
        head = {name for name, _ in visual.head.named_children()}
        if getattr(pool, "pool_type", None) == "avg" and head == {"drop", "proj"}:
            return _timm
    return None


def _vit(visual: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    outputs = visual.forward_intermediates(images, indices=1, normalize_intermediates=True, output_fmt="NLC")
    return outputs["image_features"], outputs["image_intermediates"][-1] @ visual.proj


def _resnet(visual: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    outputs = visual.forward_intermediates(images, indices=1)
    pool = visual.attnpool
    grid = outputs["image_intermediates"][-1].flatten(2).mT  # (N, P, W)

    # As in the pool itself, the mean comes before the positions. The pool's only query is the mean; here all are.
    x = torch.cat([grid.mean(1, keepdim=True), grid], dim=1) + pool.positional_embedding
    q, k, v = (
        layer(x).unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)
        for layer in (pool.q_proj, pool.k_proj, pool.v_proj)
    )
    attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
    return outputs["image_features"], pool.c_proj(attended)[:, 1:]


def _timm(visual: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    grid = visual.trunk.forward_features(images)  # (N, W, height, width)
    return visual.head(visual.trunk.forward_head(grid)), visual.head(grid.flatten(2).mT)
