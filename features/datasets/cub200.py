"""CUB-200-2011 with Xian's proposed split: 150 seen and 50 unseen kinds of birds."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import ClassVar

from features.datasets.base import Archive, Counts, Origin, Templates
from features.splits.xian_split import XLSA17, XianReader


class Cub200(XianReader):
    """Options of `reader: cub200`."""

    path: str = "CUB_200_2011"

    layout: ClassVar[str] = "images/001.Black_footed_Albatross/*.jpg ..., and res101.mat and att_splits.mat of xlsa17"
    source: ClassVar[str] = "`shipyard data get cub200` fetches it"
    images: ClassVar[tuple[str, ...]] = ("images",)
    xian_name: ClassVar[str] = "CUB"
    templates: Templates = ("a photo of a {}, a type of bird.",)  # CLIP's of Birdsnap
    archives: ClassVar[tuple[Archive, ...]] = (
        Archive(  # address: CaltechDATA's; md5: as other loaders of that address have it
            "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
            creates="images",
            inside="CUB_200_2011/images",
            checksum="md5:97eceeb196236b17998738112f37df78",
        ),
        XLSA17,
    )
    origin: ClassVar[Origin] = Origin(
        title="Caltech-UCSD Birds 200 (2011), Xian's split",
        licence="non-commercial research and education",
        home="https://www.vision.caltech.edu/datasets/cub_200_2011",
        citation="Wah, Branson, Welinder, Perona, Belongie: The Caltech-UCSD Birds-200-2011 dataset, 2011",
        counts=Counts(train=7057, val=0, test=4731, classes=200),  # test: 1,764 seen and 2,967 unseen
    )

    def class_of(self, file: str) -> str:
        """Return the folder's name without its number: `001.Laysan_Albatross` becomes `Laysan_Albatross`."""
        return PurePosixPath(file).parent.name.partition(".")[2]
