"""Few-shot classification (CoOp section 3.1, Figure 3): `shots` images of every class, judged among all classes.

No class is unseen, so there is nothing to synthesize: a grid with this task has no `generators`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pipeline.protocols.base import ClassCounts, EvalSplit, Plan, Protocol


class FewShot(Protocol):
    """Settings of `few_shot`: those that every protocol has."""

    has_unseen: ClassVar[bool] = False

    def plan(self, dataset: str, catalogs: Mapping[str, ClassCounts]) -> Plan:
        """Every class is seen; all test images are judged among all classes."""
        refs = catalogs[dataset].refs(dataset)
        return Plan(seen=refs, unseen=(), eval_splits=(EvalSplit("all", "test", refs, refs),))
