"""Domain generalization (CoOp section 3.2, Tables 1 and 6; CoCoOp section 4.3, Table 3): same classes, other images.

Learned on ImageNet, judged on ImageNetV2, -Sketch, -A and -R among the target's own classes, 200 of the 1,000 for the
last two. A target's class is the source's class of the same name, so no class is unseen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from features.errors import nearest, raise_all
from pipeline.protocols.base import ClassCounts, Plan, Transfer


class DomainGeneralization(Transfer):
    """Settings of `domain_generalization`: the source, and those that every protocol has."""

    has_unseen: ClassVar[bool] = False

    def plan(self, dataset: str, catalogs: Mapping[str, ClassCounts]) -> Plan:
        """As every transfer, with all classes shared.

        Raises:
            InputError: classes of the target that the source has not; all of them.
        """
        plan = super().plan(dataset, catalogs)
        known = catalogs[self.source].names
        strange = [catalogs[dataset].names[ref.class_id] for ref in plan.unseen]
        raise_all(
            [f"{name!r} {nearest(name, known).partition('known:')[0]}".rstrip() for name in strange],
            f"classes of {dataset!r} are none of the source {self.source!r}: a target of domain_generalization has the "
            "source's classes or some of them; `cross_dataset` takes others",
        )
        return plan
