"""Tip-Adapter-F: Tip-Adapter with trained cache keys (Zhang et al. 2022).

With synthetic features it is the row `Tip-Adapter-F + SHIP` of SHIP Table 1. Alone it cannot score classes without
images.

Differs from the official code (d0e2d6f, read 2026-11): the last epoch is taken (the code: the epoch that is best on
test images, and the better of it and the searched alpha and beta); batches draw from the stored views (the code: a
fresh crop each time); and as `tip_adapter` in the centre crop, in the validation images and in float32 (`precision:
float16` trains as the code does).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.methods._cache_model import CacheClassifier, CacheMethod, build_cache
from pipeline.methods.base import FitData
from pipeline.training.loop import Batches, cosine, index_by_label, minimise, trained_classes


class TipAdapterF(CacheMethod):
    """Settings of Tip-Adapter-F: those of the cache, and of the training of its keys."""

    precision: Literal["float32", "float16"] = "float32"  # of features, texts and keys in training (code: float16)
    epochs: Annotated[int, Field(ge=1)] = 20  # passes over the training images (paper; code: EuroSAT 100)
    batch: Annotated[int, Field(ge=1)] = 256  # real images per step (code)
    learning_rate: Annotated[float, Field(gt=0)] = 0.001  # AdamW, eps 1e-4, cosine decay per step (code)
    synthetic_ratio: Annotated[float, Field(ge=0)] = 1.0  # synthetic features per real one in a step (SHIP section 4.1)

    def fit(self, data: FitData) -> CacheClassifier:
        """Build the cache, train its keys, then select alpha and beta."""
        data = self.with_templates(data)
        data = data if self.centre_crop else data.without_centre_crop()
        cache = build_cache(data, self.alpha, self.beta)
        dtype = torch.float16 if self.precision == "float16" else cache.keys.dtype
        keys = nn.Parameter(cache.keys.to(dtype, copy=True))
        trained = replace(cache, keys=keys, weights=cache.weights.to(dtype))
        ids = trained_classes(data.classes, data.synthetic)

        def logits(features: Tensor) -> Tensor:
            return trained.unchecked_logits(features.to(dtype), ids)

        batches = Batches(data.train, data.synthetic, self.epochs, self.batch, self.synthetic_ratio, data.rng)
        optimizer = torch.optim.AdamW([keys], self.learning_rate, eps=1e-4)
        minimise(batches, logits, index_by_label(ids, len(data.classes)), optimizer, cosine(batches.steps))

        final = replace(cache, keys=keys.detach().to(cache.keys.dtype))
        return self.search(final, data.validation, data.classes.seen_ids)
