"""Domain generalization (CoOp section 3.2, Tables 1 and 6; CoCoOp section 4.3, Table 3): same classes, other images.

The papers train on ImageNet and evaluate on ImageNetV2, -Sketch, -A and -R, among the target's own classes (200 of the
1,000 for the last two). A class of the target is the class of the source with the same name, so no class is unseen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from features.errors import nearest, raise_all
from pipeline.protocols.base import ClassCounts, Plan, Transfer


class DomainGeneralization(Transfer):
    """Settings of `domain_generalization`: the source, and the settings of every protocol."""

    has_unseen: ClassVar[bool] = False

    def plan(self, dataset: str, class_counts: Mapping[str, ClassCounts]) -> Plan:
        """Plan a transfer, and check that the source has every class of the target.

        Raises:
            InputError: the target has classes that the source lacks. The error lists all of them.
        """
        plan = super().plan(dataset, class_counts)

        source_names = class_counts[self.source].names
        problems = []
        for ref in plan.unseen:
            name = class_counts[dataset].names[ref.class_id]
            # Keep "did you mean ...?" and drop the list of known names: a source may have 1,000 of them.
            suggestion = nearest(name, source_names).partition("known:")[0]
            problems.append(f"{name!r} {suggestion}".rstrip())

        raise_all(
            problems,
            f"{dataset!r} has classes that the source {self.source!r} lacks: the classes of a domain_generalization "
            "target must be a subset of the source's; use `cross_dataset` for other targets",
        )
        return plan
