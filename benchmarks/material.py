"""Inputs of the benchmarks: encoders with random weights, class names, pictures, features."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from benchmarks.memory import ROOT
from features.encoding.open_clip_text import from_open_clip
from features.splits.split_zhou import read_split
from features.text.prompts import class_tokens
from features.text.text_tower import TextTower
from pipeline.training.data import ClassSet, LabelledFeatures

VIT_B16 = "ViT-B-16-quickgelu"  # the papers' encoder; its times do not depend on its weights


@cache
def open_clip_model(name: str = VIT_B16) -> Any:
    """Return a frozen open_clip model with random weights; created once."""
    import open_clip

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return open_clip.create_model(name, load_weights=False).eval().requires_grad_(False)


def text_tower(model: Any) -> TextTower:
    """Return the text tower of an open_clip model in this project's form."""
    return from_open_clip(model, "random", "0" * 64)


def caltech_names() -> list[str]:
    """Return the 100 class names of Caltech101's official split."""
    return list(read_split(ROOT / "features/datasets/caltech101.json.gz")[0])


def imagenet_names() -> list[str]:
    """Return ImageNet's 1,000 class names as CLIP's authors wrote them."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    return list(IMAGENET_CLASSNAMES)


def class_set(tower: TextTower, names: list[str]) -> ClassSet:
    """Return classes whose first half is seen, with random zero-shot weights."""
    rng = torch.Generator().manual_seed(0)
    return ClassSet(
        names=tuple(names),
        seen=torch.arange(len(names)) < len(names) // 2,
        text_features=F.normalize(torch.randn(len(names), tower.config.embed_dim, generator=rng), dim=-1),
        text_norms=torch.ones(len(names)),
        tokens=class_tokens(names, context_length=tower.config.context_length, prompt=4),
        logit_scale=tower.config.logit_scale,
    )


def features(labels: torch.Tensor, views: int, dim: int) -> LabelledFeatures:
    """Return random features of images with these labels."""
    rng = torch.Generator().manual_seed(1)
    return LabelledFeatures(torch.randn(len(labels), views, dim, generator=rng), labels)


def photographs(folder: Path, count: int) -> list[Path]:
    """Write JPEG files of 300 x 200 pixels and 13 kB, close to Caltech101's (mean 14 kB), and return their paths."""
    paths = []
    for number in range(count):
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((300, 200), Image.Resampling.BICUBIC)).astype(np.int16)
        noisy = np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
        paths.append(folder / f"{number:05}.jpg")
        Image.fromarray(noisy).save(paths[-1], quality=80)
    return paths
