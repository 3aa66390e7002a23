"""Protocol for a user's own images: classes with training images are seen, and all others are known by name only.

Every test image is classified among all classes, which is what a user of the classifier does. Accuracy is the mean over
classes, so that a folder with many images does not outweigh the others. H is the harmonic mean of the seen and the
unseen accuracy, if there are test images of unseen classes. Without any test image, nothing is evaluated.
`shipyard task new` writes a task with this protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from features.errors import InputError
from pipeline.protocols.base import ClassCounts, EvalSplit, Plan, Protocol


class OwnImages(Protocol):
    """Settings of `own_images`. It has no settings beyond those of every protocol."""

    among_all: ClassVar[bool] = True

    def plan(self, dataset: str, class_counts: Mapping[str, ClassCounts]) -> Plan:
        """Evaluate the test images of seen classes and, if there are any, of unseen classes, each among all classes.

        Raises:
            InputError: no class has training images.
        """
        counts = class_counts[dataset].counts
        refs = class_counts[dataset].refs(dataset)

        seen = tuple(ref for ref in refs if counts["train"][ref.class_id] > 0)
        unseen = tuple(ref for ref in refs if counts["train"][ref.class_id] == 0)
        if not seen:
            raise InputError(
                f"data set {dataset!r} has no training images: own_images needs at least one class that has some"
            )

        # Leave out classes without test images: an average over classes counts only those that have some.
        eval_splits = []
        for name, group in (("seen", seen), ("unseen", unseen)):
            tested = tuple(ref for ref in group if counts["test"][ref.class_id] > 0)
            if tested:
                eval_splits.append(EvalSplit(name, "test", tested, seen + unseen, "per_class"))

        return Plan(seen, unseen, tuple(eval_splits), ("seen", "unseen") if len(eval_splits) == 2 else None)
