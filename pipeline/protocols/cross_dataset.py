"""Cross-dataset transfer (CoCoOp section 4.2, Table 2; SHIP section 4.2.2, Table 2): learned on one, judged on another.

The papers learn from ImageNet, 16 shots of each of its 1,000 classes. The target's classes are unseen, so a generator
synthesizes them; its test images are judged among its classes. A target's class that has the name of a source's class
is that class: it is seen, nothing is synthesized for it, and its prompt for the test is the target's own.

With synthetic features a method ranges over the classes of both; SHIP does not say whether it drops the source's. Where
no class is unseen (on the source itself), `+ship` is the plain method again.
"""

from __future__ import annotations

from pipeline.protocols.base import Transfer


class CrossDataset(Transfer):
    """Settings of `cross_dataset`: the source, and those that every protocol has."""
