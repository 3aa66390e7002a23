"""Animals with Attributes 2 with Xian's proposed split: 40 seen and 10 unseen animals."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import ClassVar

from features.datasets.base import Archive, Counts, Origin
from features.splits.xian_split import XLSA17, XianReader


class Awa2(XianReader):
    """Options of `reader: awa2`."""

    path: str = "Animals_with_Attributes2"

    layout: ClassVar[str] = "JPEGImages/antelope/antelope_10001.jpg ..., and res101.mat and att_splits.mat of xlsa17"
    source: ClassVar[str] = "`shipyard data get awa2` fetches it"
    images: ClassVar[tuple[str, ...]] = ("JPEGImages",)
    xian_name: ClassVar[str] = "AWA2"
    archives: ClassVar[tuple[Archive, ...]] = (
        Archive(  # address: the authors'; nobody publishes a checksum
            "https://cvml.ista.ac.at/AwA2/AwA2-data.zip",
            creates="JPEGImages",
            inside="Animals_with_Attributes2/JPEGImages",
        ),
        XLSA17,
    )
    origin: ClassVar[Origin] = Origin(
        title="Animals with Attributes 2, Xian's split",
        licence="free licences, an own one for each image",
        home="https://cvml.ista.ac.at/AwA2",
        citation="Xian, Lampert, Schiele, Akata: Zero-shot learning: a comprehensive evaluation, TPAMI 2019",
        counts=Counts(train=23527, val=0, test=13795, classes=50),  # test: 5,882 seen and 7,913 unseen
    )

    def class_of(self, file: str) -> str:
        """Return the folder's name with spaces: `grizzly+bear` becomes `grizzly bear`."""
        return PurePosixPath(file).parent.name.replace("+", " ")
