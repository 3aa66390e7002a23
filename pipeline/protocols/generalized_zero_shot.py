"""Generalized zero-shot learning (Xian et al. 2018; SHIP section 4.2.3, Table 3).

Seen classes have all of their training images, and unseen classes have none. Every test image is classified among all
classes. Accuracy is the mean of the per-class accuracies. H is the harmonic mean of the unseen and the seen accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from features.errors import InputError
from pipeline.protocols.base import ClassCounts, ClassRef, EvalSplit, Plan, Protocol, halves


class GeneralizedZeroShot(Protocol):
    """Settings of `generalized_zero_shot`."""

    among_all: ClassVar[bool] = True

    # with_images: the classes that have training images, as in the splits of Xian et al.
    # first_half, second_half: one half by label, for data sets in which every class has training images. The first half
    # is the larger one.
    seen: Literal["with_images", "first_half", "second_half"] = "with_images"

    def plan(self, dataset: str, class_counts: Mapping[str, ClassCounts]) -> Plan:
        """Evaluate the test images of unseen and of seen classes, each among all classes.

        Raises:
            InputError: no class is seen, or none is unseen.
        """
        seen, unseen = self._split(dataset, class_counts[dataset])
        if not seen or not unseen:
            raise InputError(
                f"data set {dataset!r} has {len(seen)} classes with training images and {len(unseen)} without; "
                "generalized_zero_shot needs both: set `seen: first_half`, or use a data set with unseen classes"
            )

        candidates = seen + unseen
        return Plan(
            seen=seen,
            unseen=unseen,
            eval_splits=(
                EvalSplit("unseen", "test", unseen, candidates, "per_class"),
                EvalSplit("seen", "test", seen, candidates, "per_class"),
            ),
            harmonic=("unseen", "seen"),
        )

    def _split(self, dataset: str, counts: ClassCounts) -> tuple[tuple[ClassRef, ...], tuple[ClassRef, ...]]:
        """Return the seen and the unseen classes."""
        if self.seen == "first_half":
            return halves(dataset, counts)

        if self.seen == "second_half":
            first, second = halves(dataset, counts)
            return second, first

        train = counts.counts["train"]
        refs = counts.refs(dataset)
        seen = tuple(ref for ref in refs if train[ref.class_id] > 0)
        unseen = tuple(ref for ref in refs if train[ref.class_id] == 0)
        return seen, unseen
