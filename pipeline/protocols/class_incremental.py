"""Class-incremental evaluation (CoCoOp section 4.4, Table 4): train on base classes, then add new classes by name.

The halves are those of `base_to_new`. The difference is that every test image is classified among all classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pipeline.protocols.base import ClassCounts, EvalSplit, Plan, Protocol, halves


class ClassIncremental(Protocol):
    """Settings of `class_incremental`. It has no settings beyond those of every protocol."""

    among_all: ClassVar[bool] = True

    def plan(self, dataset: str, class_counts: Mapping[str, ClassCounts]) -> Plan:
        """Split the classes by label into two halves, and evaluate all test images among all classes.

        Raises:
            InputError: the data set has fewer than two classes.
        """
        base, new = halves(dataset, class_counts[dataset])
        classes = base + new
        return Plan(seen=base, unseen=new, eval_splits=(EvalSplit("all", "test", classes, classes),))
