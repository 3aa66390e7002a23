"""Base-to-new generalization (CoCoOp section 4.1; SHIP section 4.2.1, Tables 1, 4, 5 and 6).

The first half of the classes by label is base: seen, with `shots` images each. The second half is new: only names.
Base test images are judged among base classes, new ones among new classes; H is the harmonic mean of the two.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.protocols.base import ClassCounts, EvalSplit, Plan, Protocol, halves


class BaseToNew(Protocol):
    """Settings of `base_to_new`: those that every protocol has."""

    def plan(self, dataset: str, catalogs: Mapping[str, ClassCounts]) -> Plan:
        """Split the classes in two halves by label.

        Raises:
            InputError: the data set has fewer than two classes.
        """
        base, new = halves(dataset, catalogs[dataset])
        return Plan(
            seen=base,
            unseen=new,
            eval_splits=(EvalSplit("base", "test", base, base), EvalSplit("new", "test", new, new)),
            harmonic=("base", "new"),
        )
