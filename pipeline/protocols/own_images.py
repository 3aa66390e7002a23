"""One's own data: classes with training images are seen, the others are only named; every prediction is among all.

What a user of the classifier meets: an image of any class, and all classes to choose from. Accuracy is the mean over
classes, so that a folder with many images outweighs no other; H is of seen and unseen, where some images of unseen
classes are there to judge with. `shipyard task new` writes a task of this protocol.
"""

from __future__ import annotations

from collections.abc import Mapping

from features.errors import InputError
from pipeline.protocols.base import ClassCounts, ClassRef, EvalSplit, Plan, Protocol


class OwnImages(Protocol):
    """Settings of `own_images`: those that every protocol has."""

    def plan(self, dataset: str, catalogs: Mapping[str, ClassCounts]) -> Plan:
        """Judge the test images of seen classes and, if there are any, those of unseen ones, each among all classes.

        Raises:
            InputError: no class has training images, or no image is left to judge with.
        """
        counts = catalogs[dataset].counts
        refs = [ClassRef(dataset, i) for i in range(len(catalogs[dataset].names))]
        seen = tuple(ref for ref in refs if counts["train"][ref.class_id] > 0)
        unseen = tuple(ref for ref in refs if counts["train"][ref.class_id] == 0)
        if not seen:
            raise InputError(f"data set {dataset!r} has no training images: own_images needs classes with some")
        judged = {
            name: tuple(ref for ref in classes if counts["test"][ref.class_id] > 0)
            for name, classes in (("seen", seen), ("unseen", unseen))
        }
        eval_splits = tuple(
            EvalSplit(name, "test", classes, seen + unseen, "per_class") for name, classes in judged.items() if classes
        )
        if not eval_splits:
            raise InputError(f"data set {dataset!r} has no test images: raise the last of `fractions` in data.sets")
        return Plan(seen, unseen, eval_splits, ("seen", "unseen") if len(eval_splits) == 2 else None)
