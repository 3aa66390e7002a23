"""Validation proxy for model selection on a user's own images: withhold some classes, and validate on them.

A class that is known by name only has no images to validate on. Therefore every second class with training images is
treated as unseen: it keeps its name and loses its training images. Both halves are evaluated on their validation
images, each among all classes that have training images. Accuracy is the mean over classes, and H is the harmonic mean
of the two halves. No test image is used, so `select` may compare runs by these numbers.

If every class of the data set has training images, none is withheld: all are seen. `shipyard task new` writes a task
with this protocol beside the task with `own_images`.
"""

from __future__ import annotations

from collections.abc import Mapping

from features.errors import InputError, raise_all
from pipeline.protocols.base import ClassCounts, EvalSplit, Plan, Protocol

SPLIT_HINT = "add images or, if the split is drawn, draw another (`--split-seed`; `split_seed` in data.sets)"


class ValidationProxy(Protocol):
    """Settings of `validation_proxy`. It has no settings beyond those of every protocol."""

    def plan(self, dataset: str, class_counts: Mapping[str, ClassCounts]) -> Plan:
        """Withhold every second class with training images, and evaluate the validation images of all of them.

        Raises:
            InputError: too few classes have training images, or a half has no validation images.
        """
        data = class_counts[dataset]
        refs = data.refs(dataset)
        known = tuple(ref for ref in refs if data.counts["train"][ref.class_id] > 0)

        # If the task itself has no unseen class, the proxy needs none either.
        all_seen = len(known) == len(refs)
        needed = 1 if all_seen else 2
        if len(known) < needed:
            raise InputError(
                f"data set {dataset!r} has {len(known)} class(es) with training images; a validation proxy needs at "
                f"least {needed}: add images of more classes"
            )

        groups = {"seen": known} if all_seen else {"seen": known[::2], "unseen": known[1::2]}

        validated = {}
        problems = []
        for name, group in groups.items():
            validated[name] = tuple(ref for ref in group if data.counts["val"][ref.class_id] > 0)
            if not validated[name]:
                listing = ", ".join(repr(data.names[ref.class_id]) for ref in group)
                problems.append(f"no validation image of {listing}")
        raise_all(problems, f"data set {dataset!r} has too few validation images for a validation proxy; {SPLIT_HINT}")

        return Plan(
            seen=groups["seen"],
            unseen=groups.get("unseen", ()),
            eval_splits=tuple(
                EvalSplit(name, "val", classes, known, "per_class") for name, classes in validated.items()
            ),
            harmonic=("seen", "unseen") if len(validated) == 2 else None,
        )
