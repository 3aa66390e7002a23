"""Tip-Adapter's search of alpha and beta over 20 x 200 points, against computing the logits again at each point.

`python -m benchmarks tip_grid`. The reference is timed on some of the points and its time is multiplied.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measure import Row, in_turn
from pipeline.methods._cache_model import CacheClassifier
from pipeline.methods.tip_adapter import TipAdapter
from pipeline.training.data import LabelledFeatures

CLASSES = 100
SHOTS = 16
DIM = 512
VALIDATION = 2_500  # images


def rows(*, small: bool) -> list[Row]:
    """Return the row of the whole search."""
    points = 10 if small else 100
    rng = torch.Generator().manual_seed(0)
    keys = F.normalize(torch.randn(CLASSES * SHOTS, DIM, generator=rng), dim=-1)
    weights = F.normalize(torch.randn(CLASSES, DIM, generator=rng), dim=-1)
    images = torch.randn(VALIDATION, 1, DIM, generator=rng)
    validation = LabelledFeatures(images, torch.arange(VALIDATION) % CLASSES)
    labels = torch.arange(len(keys)) % CLASSES
    cache = CacheClassifier(
        torch.tensor(100.0),
        torch.ones(CLASSES, dtype=torch.bool),
        weights=weights,
        keys=keys,
        key_labels=labels,
        alpha=torch.tensor(1.0),
        beta=torch.tensor(1.0),
    )
    method = TipAdapter()
    all_ids = torch.arange(CLASSES)

    def recompute() -> list[Tensor]:
        return [_accuracy(cache, validation, 0.1 + 0.01 * point) for point in range(points)]

    ours, some = in_turn(lambda: method.search(cache, validation, all_ids), recompute, warm=not small)
    grid = method.alpha_points * method.beta_points
    name = f"alpha, beta search, {grid:,} points, {VALIDATION:,} images, {CLASSES} classes"
    return [Row.of(name, ours, some * grid / points, at_least=30)]


def _accuracy(cache: CacheClassifier, validation: LabelledFeatures, beta: float) -> Tensor:
    features = validation.centre
    votes = torch.exp(-beta * (1 - features @ cache.keys.T)) @ F.one_hot(cache.key_labels).float()
    logits = cache.logit_scale * features @ cache.weights.T + votes
    return (logits.argmax(-1) == validation.labels).float().mean()
