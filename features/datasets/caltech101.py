"""Caltech101 with CoOp's split: 100 classes, 4,128 / 1,649 / 2,465 images (CoOp, appendix, Table 5).

Layout of CoOp's instructions: `caltech-101/101_ObjectCategories/<Class>/image_0001.jpg`. The split leaves out
`BACKGROUND_Google` and `Faces_easy`, so a copy may have them or not.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from features.datasets.base import Archive, Counts, Origin
from features.splits.split_zhou import SplitReader


class Caltech101(SplitReader):
    """Options of `reader: caltech101`."""

    path: str = "caltech-101"

    layout: ClassVar[str] = "101_ObjectCategories/<Class>/image_0001.jpg ..., as CoOp's instructions make it"
    source: ClassVar[str] = "`shipyard data get caltech101` fetches it"
    images: ClassVar[tuple[str, ...]] = ("101_ObjectCategories",)
    split_file: ClassVar[str] = "split_zhou_Caltech101.json"
    packaged_split: ClassVar[Path | None] = Path(__file__).with_suffix(".json.gz")
    archives: ClassVar[tuple[Archive, ...]] = (
        Archive(  # address and md5: torchvision.datasets.Caltech101
            "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
            creates="101_ObjectCategories",
            inside="caltech-101/101_ObjectCategories.tar.gz/101_ObjectCategories",
            checksum="md5:3138e1922a9193bfa496528edbbc45d0",
        ),
    )
    origin: ClassVar[Origin] = Origin(
        title="Caltech 101",
        licence="CC BY 4.0",
        home="https://data.caltech.edu/records/mzrjq-6wc02",
        citation="Fei-Fei, Fergus, Perona: Learning generative visual models from few training examples, CVPR-W 2004",
        counts=Counts(train=4128, val=1649, test=2465, classes=100),
    )
