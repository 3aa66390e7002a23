"""Generalized zero-shot learning (Xian et al. 2018; SHIP section 4.2.3, Table 3).

Seen classes with all of their training images, unseen ones with none; every test image is judged among all classes, by
the mean of per-class accuracies; H is the harmonic mean of the unseen and the seen one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from features.errors import InputError
from pipeline.protocols.base import ClassCounts, ClassRef, EvalSplit, Plan, Protocol, halves


class GeneralizedZeroShot(Protocol):
    """Settings of `generalized_zero_shot`."""

    # with_images: the classes that have training images, as in the splits of Xian et al. | first_half: by label, for
    # data sets whose classes all have some
    seen: Literal["with_images", "first_half"] = "with_images"

    def plan(self, dataset: str, catalogs: Mapping[str, ClassCounts]) -> Plan:
        """Judge test images of unseen and of seen classes, each among all.

        Raises:
            InputError: no class is seen, or none unseen.
        """
        seen, unseen = self._split(dataset, catalogs[dataset])
        if not seen or not unseen:
            raise InputError(
                f"data set {dataset!r} has {len(seen)} classes with training images and {len(unseen)} without; "
                "generalized_zero_shot needs both: set `seen: first_half`, or take a data set with unseen classes"
            )
        eval_splits = tuple(
            EvalSplit(name, "test", classes, seen + unseen, "per_class")
            for name, classes in (("unseen", unseen), ("seen", seen))
        )
        return Plan(seen=seen, unseen=unseen, eval_splits=eval_splits, harmonic=("unseen", "seen"))

    def _split(self, dataset: str, catalog: ClassCounts) -> tuple[tuple[ClassRef, ...], tuple[ClassRef, ...]]:
        if self.seen == "first_half":
            return halves(dataset, catalog)
        counts = catalog.counts["train"]
        seen = tuple(ClassRef(dataset, i) for i, count in enumerate(counts) if count > 0)
        return seen, tuple(ClassRef(dataset, i) for i, count in enumerate(counts) if count == 0)
