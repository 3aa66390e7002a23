"""Oxford Flowers 102 as generalized zero-shot papers use it: 82 seen and 20 unseen classes.

The images are those of `flowers102`. Xian's file has no class names; they come from CoOp's split.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import ClassVar

from features.datasets.base import Counts, Origin, Templates
from features.splits.oxford_flowers import flower_names
from features.splits.xian_split import XianReader


class Flo(XianReader):
    """Options of `reader: flo`."""

    path: str = "oxford_flowers"

    layout: ClassVar[str] = "jpg/image_00001.jpg ..., and res101.mat and att_splits.mat of FLO"
    source: ClassVar[str] = (
        "`shipyard data get flowers102` fetches the images. The .mat files are not in Xian's archive; they "
        "come with the data of f-CLSWGAN (https://datasets.d2.mpi-inf.mpg.de/xian/cvpr18xian.zip) and of TF-VAEGAN: "
        "copy those of FLO into data.root/xlsa17/data/FLO"
    )
    images: ClassVar[tuple[str, ...]] = ("jpg",)
    xian_name: ClassVar[str] = "FLO"
    templates: Templates = ("a photo of a {}, a type of flower.",)
    origin: ClassVar[Origin] = Origin(
        title="Oxford Flowers 102, zero-shot split",
        licence="not stated; for research",
        home="https://www.robots.ox.ac.uk/~vgg/data/flowers/102",
        citation="Nilsback, Zisserman: Automated flower classification over a large number of classes, ICVGIP 2008",
        counts=Counts(train=5631, val=0, test=2558, classes=102),  # test: 1,403 seen and 1,155 unseen
    )

    def relative_path(self, file: str) -> str:
        """Return the file's name, because all images are in one folder."""
        return PurePosixPath(file).name

    def class_of(self, file: str) -> str:
        """Return the class name in CoOp's split."""
        return flower_names().get(file, f"unknown image {file}")
