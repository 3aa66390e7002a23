"""SUN attributes with Xian's proposed split: 645 seen and 72 unseen scenes, 20 images each."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import ClassVar

from features.datasets.base import Archive, Counts, Origin
from features.splits.xian_split import XLSA17, XianReader


class Sun(XianReader):
    """Options of `reader: sun`."""

    path: str = "SUN"

    layout: ClassVar[str] = "images/a/abbey/*.jpg ..., and res101.mat and att_splits.mat of xlsa17"
    source: ClassVar[str] = "`shipyard data get sun` fetches it"
    images: ClassVar[tuple[str, ...]] = ("images",)
    xian_name: ClassVar[str] = "SUN"
    archives: ClassVar[tuple[Archive, ...]] = (
        Archive(  # address: the authors'; nobody publishes a checksum
            "https://cs.brown.edu/~gmpatter/Attributes/SUNAttributeDB_Images.tar.gz", creates="images", inside="images"
        ),
        XLSA17,
    )
    origin: ClassVar[Origin] = Origin(
        title="SUN attributes, Xian's split",
        licence="research",
        home="https://cs.brown.edu/~gmpatter/sunattributes.html",
        citation="Patterson, Hays: SUN attribute database: discovering, annotating, and recognizing scenes, CVPR 2012",
        counts=Counts(train=10320, val=0, test=4020, classes=717),  # test: 2,580 seen and 1,440 unseen
    )

    def class_of(self, file: str) -> str:
        """Return the path without its first letter, joined by `_`: `a/airport/terminal` becomes `airport_terminal`."""
        return "_".join(PurePosixPath(file).parent.parts[1:])
