"""Select a setting by accuracy on the validation images of the seen classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeVar

from torch import Tensor

from pipeline.methods.base import Classifier
from pipeline.training.data import LabelledFeatures

Option = TypeVar("Option")


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
