"""Select a setting by accuracy on the validation images of the seen classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.methods.base import Classifier, FitData
from pipeline.training.data import LabelledFeatures

Option = TypeVar("Option")


def budgeted(data: FitData, most: int | None) -> LabelledFeatures:
    """Return at most `most` validation images of each class, and no more than there are shots, drawn at random.

    Few-shot papers count validation images as part of the budget. `None` returns all images.
    """
    if most is None or len(data.validation) == 0:
        return data.validation

    images = data.validation
    order = torch.randperm(len(images), generator=data.rng).to(images.labels.device)
    kept = order[first_per_label(images.labels[order], min(most, max(1, data.shots)))].sort().values
    return LabelledFeatures(images.features[kept], images.labels[kept])


def first_per_label(labels: Tensor, count: int) -> Tensor:
    """Return a mask (N,) of the first `count` rows of each label; labels (N,)."""
    one_hot = F.one_hot(labels)
    rank = one_hot.cumsum(0).gather(1, labels[:, None]).squeeze(1)  # 1 for the first row of a label
    return rank <= count


def count_correct(classifier: Classifier, validation: LabelledFeatures, candidates: Tensor) -> int:
    """Return how many validation images (V, 1, D) are classified correctly among the classes `candidates` (S,)."""
    predicted = candidates[classifier.logits(validation.centre, candidates).argmax(1)]
    return int((predicted == validation.labels).sum())


def best_on_validation(counted: Iterable[tuple[Option, int]], *, ties: Literal["first", "last"] = "first") -> Option:
    """Return the option with the most correct validation images.

    Only the best option so far is kept, so `counted` may be a generator of many classifiers.

    Args:
        counted: pairs of an option and its number of correct images; at least one pair.
        ties: which of several equally good options to return.
    """
    pairs = iter(counted)
    best, most = next(pairs)

    for option, correct in pairs:
        if correct > most or (correct == most and ties == "last"):
            best, most = option, correct
    return best
