"""Oxford Flowers 102 with CoOp's split: 102 classes, 4,093 / 1,633 / 2,463 images (CoOp, appendix, Table 5)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from features.datasets.base import Archive, Counts, Origin, Templates
from features.splits import oxford_flowers
from features.splits.split_zhou import SplitReader


class Flowers102(SplitReader):
    """Options of `reader: flowers102`."""

    path: str = "oxford_flowers"

    layout: ClassVar[str] = "jpg/image_00001.jpg ..., as CoOp's instructions make it"
    source: ClassVar[str] = "`shipyard data get flowers102` fetches it"
    images: ClassVar[tuple[str, ...]] = ("jpg",)
    split_file: ClassVar[str] = "split_zhou_OxfordFlowers.json"
    packaged_split: ClassVar[Path | None] = oxford_flowers.SPLIT
    templates: Templates = ("a photo of a {}, a type of flower.",)
    archives: ClassVar[tuple[Archive, ...]] = (
        Archive(  # address and md5: torchvision.datasets.Flowers102
            "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz",
            creates="jpg",
            inside="jpg",
            checksum="md5:52808999861908f626f3c1f4e79d11fa",
        ),
    )
    origin: ClassVar[Origin] = Origin(
        title="Oxford Flowers 102",
        licence="not stated; for research",
        home="https://www.robots.ox.ac.uk/~vgg/data/flowers/102",
        citation="Nilsback, Zisserman: Automated flower classification over a large number of classes, ICVGIP 2008",
        counts=Counts(train=4093, val=1633, test=2463, classes=102),
    )
