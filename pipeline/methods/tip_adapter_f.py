"""Tip-Adapter-F: Tip-Adapter with trained cache keys (Zhang et al. 2022).

Reproduces the row `Tip-Adapter-F + SHIP` of SHIP Table 1. Alone it cannot score classes without images.

Differs from the official code (d0e2d6f): the last epoch is taken (the code: the epoch that is best on test images);
batches draw from the stored views and the centre crop (the code: a fresh crop each time); and as `tip_adapter` in the
views of a key, in the validation images and in float32.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.methods._cache_model import CacheClassifier, CacheMethod, build_cache
from pipeline.methods.base import FitData
from pipeline.training.loop import Batches, cosine, index_by_label, minimise, trained_classes


class TipAdapterF(CacheMethod):
    """Settings of Tip-Adapter-F: those of the cache, and of the training of its keys."""

    epochs: Annotated[int, Field(ge=1)] = 20  # passes over the training images (paper; code: EuroSAT 100)
    batch: Annotated[int, Field(ge=1)] = 256  # real images per step (code)
    learning_rate: Annotated[float, Field(gt=0)] = 0.001  # AdamW, eps 1e-4, cosine decay per step (code)
    synthetic_ratio: Annotated[float, Field(ge=0)] = 1.0  # synthetic features per real one in a step (SHIP section 4.1)

    def fit(self, data: FitData) -> CacheClassifier:
        """Build the cache, train its keys, then select alpha and beta."""
        cache = build_cache(data, self.alpha, self.beta)
        keys = nn.Parameter(cache.keys.clone())
        trained = replace(cache, keys=keys)
        ids = trained_classes(data.classes, data.synthetic)

        def logits(features: Tensor) -> Tensor:
            return trained.unchecked_logits(features, ids)

        batches = Batches(data.train, data.synthetic, self.epochs, self.batch, self.synthetic_ratio, data.rng)
        optimizer = torch.optim.AdamW([keys], self.learning_rate, eps=1e-4)
        minimise(batches, logits, index_by_label(ids, len(data.classes)), optimizer, cosine(batches.steps))

        final = replace(cache, keys=keys.detach())
        return self.search(final, data.validation, data.classes.seen_ids)
