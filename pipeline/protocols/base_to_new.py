"""Base-to-new generalization (CoCoOp section 4.1; SHIP section 4.2.1, Tables 1, 4, 5 and 6).

The first half of the classes by label is the base half: these classes are seen, with `shots` images each. The second
half is the new half: these classes are known by name only. Base test images are classified among the base classes, and
new test images among the new classes. H is the harmonic mean of the two accuracies.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.protocols.base import ClassCounts, EvalSplit, Plan, Protocol, halves


class BaseToNew(Protocol):
    """Settings of `base_to_new`. It has no settings beyond those of every protocol."""

    def plan(self, dataset: str, class_counts: Mapping[str, ClassCounts]) -> Plan:
        """Split the classes by label into two halves, and evaluate each half by itself.

        Raises:
            InputError: the data set has fewer than two classes.
        """
        base, new = halves(dataset, class_counts[dataset])
        return Plan(
            seen=base,
            unseen=new,
            eval_splits=(EvalSplit("base", "test", base, base), EvalSplit("new", "test", new, new)),
            harmonic=("base", "new"),
        )
