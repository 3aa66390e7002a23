"""Local features of an image: what an image tower knows of each patch, in the space that it shares with texts.

CLIP trains the pooled feature alone; these are what pooling starts from, brought to the same D dimensions:
- open_clip's ViT: the last block's patch tokens, through the final norm and the projection.
- its ResNet: each position of the attention pool as a query of its own, as PLOT's code (Chen et al. 2023) has it.
- timm's convolutional networks that pool by an average and project by one layer: the layer at each position, so that
  their mean is the pooled feature.
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
    """P: how many patch tokens a crop has.

    Raises:
        InputError: it is not known how this encoder's image tower would give them.
    """
    height, width = encoder.preprocess.size
    blank = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    return encode_with_patches(encoder, blank)[1].shape[1]


def encode_with_patches(encoder: Encoder, crops: Tensor, precision: Precision = "float32") -> tuple[Tensor, Tensor]:
    """(N, D) features and (N, P, D) patch tokens, float32 and not normalised, of (N, height, width, 3) uint8 crops.

    Raises:
        InputError: it is not known how this encoder's image tower would give patch tokens.
    """
    visual: Any = encoder.model.visual
    encode = _way(visual)
    if encode is None:
        raise InputError(
            f"encoder {encoder.name!r}: its image tower, a {type(visual).__name__}, gives no patch tokens that lie in "
            "the space of its features; known are open_clip's own ViTs without an attention pool, its ResNets, and "
            "timm's convolutional networks with average pooling: set extract.patch_tokens: false, or another encoder"
        )
    with torch.inference_mode(), autocast(encoder.device, precision):
        features, patches = encode(visual, encoder.normalize(crops))
        return features.float(), patches.float()


def _way(visual: Any) -> Encode | None:
    kind = type(visual).__name__
    if kind == "VisionTransformer" and visual.attn_pool is None and not visual.final_ln_after_pool:
        return _vit if visual.pool_type in {"tok", "avg"} and visual.proj is not None else None
    if kind == "ModifiedResNet":
        return _resnet
    pool = getattr(getattr(visual, "trunk", None), "global_pool", None)
    if (
        kind == "TimmModel"
        and getattr(pool, "pool_type", None) == "avg"
        and set(dict(visual.head.named_children()))
        == {
            "drop",
            "proj",
        }
    ):
        return _timm
    return None


def _vit(visual: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    found = visual.forward_intermediates(images, indices=1, normalize_intermediates=True, output_fmt="NLC")
    return found["image_features"], found["image_intermediates"][-1] @ visual.proj


def _resnet(visual: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    found = visual.forward_intermediates(images, indices=1)
    pool, grid = visual.attnpool, found["image_intermediates"][-1].flatten(2).mT  # (N, P, W)
    x = torch.cat([grid.mean(1, keepdim=True), grid], dim=1) + pool.positional_embedding
    q, k, v = (
        layer(x).unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)
        for layer in (pool.q_proj, pool.k_proj, pool.v_proj)
    )
    return found["image_features"], pool.c_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))[
        :, 1:
    ]


def _timm(visual: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    grid = visual.trunk.forward_features(images)  # (N, W, height, width)
    return visual.head(visual.trunk.forward_head(grid)), visual.head(grid.flatten(2).mT)
