"""Cross-dataset transfer (CoCoOp section 4.2, Table 2; SHIP section 4.2.2, Table 2): train on one, evaluate on another.

The papers train on ImageNet, with 16 shots of each of its 1,000 classes. The classes of the target are unseen, so a
generator synthesizes features for them. The test images of the target are classified among the target's classes.

A class of the target that has the same name as a class of the source is the same class. It is seen, so no features are
synthesized for it. Its test prompt is that of the target.

With synthetic features a method covers the classes of both data sets. The SHIP paper does not state whether it drops
the classes of the source. If no class is unseen (on the source itself), `+ship` is identical to the plain method.
"""

from __future__ import annotations

from pipeline.protocols.base import Transfer


class CrossDataset(Transfer):
    """Settings of `cross_dataset`: the source, and the settings of every protocol."""
