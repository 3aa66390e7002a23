"""Food101 with CoOp's split: 101 classes, 50,500 / 20,200 / 30,300 images (CoOp, appendix, Table 5)."""

from __future__ import annotations

from typing import ClassVar

from features.datasets.base import Archive, Counts, Origin, Templates
from features.splits.split_zhou import SplitReader


class Food101(SplitReader):
    """Options of `reader: food101`."""

    path: str = "food-101"

    layout: ClassVar[str] = (
        "images/apple_pie/1005649.jpg ... and split_zhou_Food101.json, as CoOp's instructions make it"
    )
    source: ClassVar[str] = "`shipyard data get food101` fetches the images"
    images: ClassVar[tuple[str, ...]] = ("images",)
    split_file: ClassVar[str] = "split_zhou_Food101.json"
    split_url: ClassVar[str] = "https://drive.google.com/file/d/1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl/view"
    templates: Templates = ("a photo of {}, a type of food.",)
    archives: ClassVar[tuple[Archive, ...]] = (
        Archive(  # address and md5: torchvision.datasets.Food101
            "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
            creates="images",
            inside="food-101/images",
            checksum="md5:85eeb15f3717b99a5da872d97d918f87",
        ),
    )
    origin: ClassVar[Origin] = Origin(
        title="Food101",
        licence="research, under Foodspotting's terms",
        home="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101",
        citation="Bossard, Guillaumin, Van Gool: Food-101: mining components with random forests, ECCV 2014",
        counts=Counts(train=50500, val=20200, test=30300, classes=101),
    )
