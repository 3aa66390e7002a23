"""Tip-Adapter: a cache of training features beside the zero-shot classifier, without training (Zhang et al. 2022).

SHIP Table 1 reports only its trained form, `tip_adapter_f`. Alone it cannot score classes without images. With
synthetic features it can, though no paper reports that.

Differs from the official code (d0e2d6f, read 2026-11): alpha and beta are selected on validation images of seen classes
(the code: for ImageNet on test images, see `validation_from` of a task); the centre crop is one of the views of a key
(the code: 10 augmented crops, see `centre_crop`; accuracy differs by 0.1 points); float32 (the code: float16).
"""

from __future__ import annotations

from pipeline.methods._cache_model import CacheClassifier, CacheMethod, build_cache
from pipeline.methods.base import FitData


class TipAdapter(CacheMethod):
    """Settings of Tip-Adapter: those of the cache."""

    def fit(self, data: FitData) -> CacheClassifier:
        """Build the cache, then select alpha and beta."""
        data = self.with_templates(data)
        data = data if self.centre_crop else data.without_centre_crop()
        cache = build_cache(data, self.alpha, self.beta)
        return self.search(cache, data.validation, data.classes.seen_ids)
