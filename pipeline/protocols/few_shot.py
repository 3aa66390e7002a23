"""Few-shot classification (CoOp section 3.1, Figure 3): `shots` images of every class, evaluated among all classes.

No class is unseen, so there is nothing to synthesize: a grid with this task has no `generators`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pipeline.protocols.base import ClassCounts, EvalSplit, Plan, Protocol


class FewShot(Protocol):
    """Settings of `few_shot`. It has no settings beyond those of every protocol."""

    has_unseen: ClassVar[bool] = False

    def plan(self, dataset: str, class_counts: Mapping[str, ClassCounts]) -> Plan:
        """Mark every class as seen, and evaluate all test images among all classes."""
        refs = class_counts[dataset].refs(dataset)
        return Plan(seen=refs, unseen=(), eval_splits=(EvalSplit("all", "test", refs, refs),))
