"""A rehearsal of one's own task: some classes with images play those without, and photographs judge.

A class that is only named has no photograph to judge it by. So, of the classes with training images, every second one
keeps them, and the others are only named. Both are judged on their validation images, each among all of these classes;
accuracy is the mean over classes, and H is of the two. No test image is judged, so `select` may choose by it. Where no
class of the data set is only named, none plays one: all are seen. `shipyard task new` writes a task of this protocol
beside that of `own_images`.
"""

from __future__ import annotations

from collections.abc import Mapping

from features.errors import InputError, raise_all
from pipeline.protocols.base import ClassCounts, EvalSplit, Plan, Protocol

REMEDY = "give more images or, where the split is drawn, draw another (`--split-seed`; `split_seed` in data.sets)"


class ValidationProxy(Protocol):
    """Settings of `rehearsal`: those that every protocol has."""

    def plan(self, dataset: str, catalogs: Mapping[str, ClassCounts]) -> Plan:
        """Name every second of the classes that have training images, and judge the validation images of all of them.

        Raises:
            InputError: too few classes have training images, or no validation image is there to judge a half with.
        """
        catalog = catalogs[dataset]
        refs = catalog.refs(dataset)
        known = tuple(ref for ref in refs if catalog.counts["train"][ref.class_id] > 0)
        needed = 1 if len(known) == len(refs) else 2
        if len(known) < needed:
            raise InputError(
                f"data set {dataset!r} has {len(known)} class(es) with training images; to rehearse what a name alone "
                f"is worth takes at least {needed}: give images of more classes"
            )
        halves = {"seen": known} if needed == 1 else {"seen": known[::2], "unseen": known[1::2]}
        judged = {
            name: tuple(ref for ref in half if catalog.counts["val"][ref.class_id] > 0) for name, half in halves.items()
        }
        lacking = [
            f"no validation image of {', '.join(repr(catalog.names[ref.class_id]) for ref in halves[name])}"
            for name, found in judged.items()
            if not found
        ]
        raise_all(lacking, f"data set {dataset!r} cannot be rehearsed; {REMEDY}")
        return Plan(
            seen=halves["seen"],
            unseen=halves.get("unseen", ()),
            eval_splits=tuple(EvalSplit(name, "val", found, known, "per_class") for name, found in judged.items()),
            harmonic=("seen", "unseen") if len(judged) == 2 else None,
        )
