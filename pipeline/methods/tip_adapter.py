"""Tip-Adapter: a cache of training features beside the zero-shot classifier, without training (Zhang et al. 2022).

SHIP Table 1 reports only its trained form, `tip_adapter_f`. Alone it cannot score classes without images. With
synthetic features it can, though no paper reports that.

Differs from the official code (d0e2d6f): alpha and beta are selected on validation images of seen classes for every
data set (the code: on test images for ImageNet); a key is the mean of the centre crop and the stored views (the code:
of 10 augmented crops); float32 (the code: float16).
"""

from __future__ import annotations

from pipeline.methods._cache_model import CacheClassifier, CacheMethod, build_cache
from pipeline.methods.base import FitData


class TipAdapter(CacheMethod):
    """Settings of Tip-Adapter: those of the cache."""

    def fit(self, data: FitData) -> CacheClassifier:
        """Build the cache, then select alpha and beta."""
        cache = build_cache(data, self.alpha, self.beta)
        return self.search(cache, data.validation, data.classes.seen_ids)
