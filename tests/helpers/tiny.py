"""Small real inputs for tests: a random text tower, classes and separable features. No mocks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from features.text.open_clip_tower import OpenClipConfig, OpenClipTower
from features.text.prompts import class_tokens
from pipeline.training.data import ClassSet, LabelledFeatures

NAMES = ("cat", "sea_horse", "grand piano", "joshua tree", "dog", "windsor chair")


def tower(
    *, width: int = 16, layers: int = 2, embed_dim: int = 32, context_length: int = 77, std: float = 1.0
) -> OpenClipTower:
    """Return a text tower with random weights and CLIP's vocabulary."""
    config = OpenClipConfig(
        width=width,
        heads=2,
        layers=layers,
        embed_dim=embed_dim,
        context_length=context_length,
        vocabulary=49408,
        mlp_width=4 * width,
        quick_gelu=True,
        logit_scale=20.0,
        encoder="tiny",
        weights_sha256="0" * 64,
    )
    text_tower = OpenClipTower(config)
    rng = torch.Generator().manual_seed(0)
    for name, parameter in text_tower.named_parameters():
        if "ln_" not in name:
            torch.nn.init.normal_(parameter, std=std, generator=rng)
    return text_tower.freeze()


def classes(text: OpenClipTower, seen: int = 4, names: tuple[str, ...] = NAMES) -> ClassSet:
    """Return classes of these names, the first `seen` of them seen."""
    tokens = class_tokens(names, context_length=text.config.context_length, prompt=16)
    encoded = text.encode(tokens)
    return ClassSet(
        names=names,
        seen=torch.arange(len(names)) < seen,
        text_features=F.normalize(encoded, dim=-1),
        text_norms=encoded.norm(dim=-1),
        tokens=tokens,
        logit_scale=text.config.logit_scale,
    )


def centres(count: int, dim: int) -> Tensor:
    """Return unit rows (count, dim), each as far from its class's text feature as photographs are."""
    texts = classes(tower(embed_dim=dim)).text_features[:count]
    off = F.normalize(torch.randn(len(NAMES), dim, generator=torch.Generator().manual_seed(1)), dim=-1)[:count]
    return F.normalize(texts + 0.7 * off, dim=-1)


def features(ids: list[int], per_class: int, views: int, *, dim: int = 32, noise: float = 0.02) -> LabelledFeatures:
    """Return features (len(ids) * per_class, views, dim) around one centre per class, of norm 3, in shuffled order."""
    rng = torch.Generator().manual_seed(2)
    labels = torch.tensor(ids).repeat_interleave(per_class)
    labels = labels[torch.randperm(len(labels), generator=rng)]
    noisy = centres(max(ids) + 1, dim)[labels][:, None] + noise * torch.randn(len(labels), views, dim, generator=rng)
    return LabelledFeatures(3.0 * noisy, labels)


def with_patches(images: LabelledFeatures, patches: int = 5, noise: float = 0.05) -> LabelledFeatures:
    """Return the same images with patch tokens (N, patches, D) around their features, of norm 2."""
    rng = torch.Generator().manual_seed(3)
    n, _, dim = images.features.shape
    noisy = images.centre[:, None] + noise * torch.randn(n, patches, dim, generator=rng)
    return LabelledFeatures(images.features, images.labels, (2.0 * noisy).half())
