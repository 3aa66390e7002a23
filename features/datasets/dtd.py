"""Describable Textures with CoOp's split: 47 classes, 2,820 / 1,128 / 1,692 images (CoOp, appendix, Table 5)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from features.datasets.base import Archive, Counts, Origin, Templates
from features.splits.split_zhou import SplitReader


class DescribableTextures(SplitReader):
    """Options of `reader: dtd`."""

    path: str = "dtd"

    layout: ClassVar[str] = "images/banded/banded_0002.jpg ..., as CoOp's instructions make it"
    source: ClassVar[str] = "`shipyard data get dtd` fetches it"
    images: ClassVar[tuple[str, ...]] = ("images", "dtd/images")  # the second: torchvision's downloader
    split_file: ClassVar[str] = "split_zhou_DescribableTextures.json"
    packaged_split: ClassVar[Path | None] = Path(__file__).with_suffix(".json.gz")
    templates: Templates = ("{} texture.",)
    archives: ClassVar[tuple[Archive, ...]] = (
        Archive(  # address and md5: torchvision.datasets.DTD
            "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
            creates="images",
            inside="dtd/images",
            checksum="md5:fff73e5086ae6bdbea199a49dfb8a4c1",
        ),
    )
    origin: ClassVar[Origin] = Origin(
        title="Describable Textures (DTD)",
        licence="research",
        home="https://www.robots.ox.ac.uk/~vgg/data/dtd",
        citation="Cimpoi, Maji, Kokkinos, Mohamed, Vedaldi: Describing textures in the wild, CVPR 2014",
        counts=Counts(train=2820, val=1128, test=1692, classes=47),
    )
