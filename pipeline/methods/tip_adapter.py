"""Tip-Adapter: a cache of training features beside the zero-shot classifier; nothing is trained (Zhang et al. 2022).

Alone it cannot score classes without images; with synthetic features it can, though no paper reports that. alpha and
beta are chosen on validation images of seen classes (the official code: on validation, for ImageNet on test).
"""

from __future__ import annotations

import torch

from features.text.text_tower import TextTower
from pipeline.methods._cache_model import CacheClassifier, CacheMethod, build
from pipeline.training.data import ClassSet, LabelledFeatures


class TipAdapter(CacheMethod):
    """Settings of Tip-Adapter: those of the cache."""

    def fit(
        self,
        train: LabelledFeatures,
        classes: ClassSet,
        *,
        synthetic: LabelledFeatures | None,
        validation: LabelledFeatures,
        tower: TextTower | None,  # noqa: ARG002
        rng: torch.Generator,  # noqa: ARG002
    ) -> CacheClassifier:
        """Build the cache, then choose alpha and beta."""
        cache = build(train, classes, synthetic, self.alpha, self.beta)
        return self.searched(cache, validation, classes.seen_ids)
