"""Tip-Adapter: a cache of training features beside the zero-shot classifier; nothing is trained (Zhang et al. 2022).

Alone it cannot score classes without images; with synthetic features it can, though no paper reports that. alpha and
beta are chosen on validation images of seen classes (the official code: on validation, for ImageNet on test).
"""

from __future__ import annotations

from pipeline.methods._cache_model import CacheClassifier, CacheMethod, build
from pipeline.methods.base import FitData


class TipAdapter(CacheMethod):
    """Settings of Tip-Adapter: those of the cache."""

    def fit(self, data: FitData) -> CacheClassifier:
        """Build the cache, then choose alpha and beta."""
        cache = build(data.train, data.classes, data.synthetic, self.alpha, self.beta)
        return self.searched(cache, data.validation, data.classes.seen_ids)
