"""SUN397 with CoOp's split: 397 classes, 15,880 / 3,970 / 19,850 images (CoOp, appendix, Table 5)."""

from __future__ import annotations

from typing import ClassVar

from features.datasets.base import Archive, Counts, Origin
from features.splits.split_zhou import SplitReader


class Sun397(SplitReader):
    """Options of `reader: sun397`."""

    path: str = "sun397"

    layout: ClassVar[str] = "SUN397/a/abbey/sun_....jpg ... and split_zhou_SUN397.json, as CoOp's instructions make it"
    source: ClassVar[str] = "`shipyard data get sun397` fetches the images"
    images: ClassVar[tuple[str, ...]] = ("SUN397",)
    split_file: ClassVar[str] = "split_zhou_SUN397.json"
    split_url: ClassVar[str] = "https://drive.google.com/file/d/1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq/view"
    archives: ClassVar[tuple[Archive, ...]] = (
        Archive(  # address and md5: torchvision.datasets.SUN397
            "http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz",
            creates="SUN397",
            inside="SUN397",
            checksum="md5:8ca2778205c41d23104230ba66911c7a",
        ),
    )
    origin: ClassVar[Origin] = Origin(
        title="SUN397",
        licence="research",
        home="https://vision.princeton.edu/projects/2010/SUN",
        citation="Xiao, Hays, Ehinger, Oliva, Torralba: SUN database: large-scale scene recognition, CVPR 2010",
        counts=Counts(train=15880, val=3970, test=19850, classes=397),
    )
