"""Base classes are learned, new ones come by name, and all are judged together (CoCoOp section 4.4, Table 4).

The halves are those of `base_to_new`; the difference is that every test image is judged among all classes.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.protocols.base import ClassCounts, EvalSplit, Plan, Protocol, halves


class ClassIncremental(Protocol):
    """Settings of `class_incremental`: those that every protocol has."""

    def plan(self, dataset: str, catalogs: Mapping[str, ClassCounts]) -> Plan:
        """Split the classes in two halves by label, and judge all among all.

        Raises:
            InputError: the data set has fewer than two classes.
        """
        base, new = halves(dataset, catalogs[dataset])
        return Plan(seen=base, unseen=new, eval_splits=(EvalSplit("all", "test", base + new, base + new),))
