"""Oxford-IIIT Pets with CoOp's split: 37 classes, 2,944 / 736 / 3,669 images (CoOp, appendix, Table 5)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from features.datasets.base import Archive, Counts, Origin, Templates
from features.splits.split_zhou import SplitReader


class OxfordPets(SplitReader):
    """Options of `reader: oxford_pets`."""

    path: str = "oxford_pets"

    layout: ClassVar[str] = "images/Abyssinian_1.jpg ..., as CoOp's instructions make it"
    source: ClassVar[str] = "`shipyard data get oxford_pets` fetches it"
    images: ClassVar[tuple[str, ...]] = ("images",)
    split_file: ClassVar[str] = "split_zhou_OxfordPets.json"
    packaged_split: ClassVar[Path | None] = Path(__file__).with_suffix(".json.gz")
    templates: Templates = ("a photo of a {}, a type of pet.",)
    archives: ClassVar[tuple[Archive, ...]] = (
        Archive(  # address and md5: torchvision.datasets.OxfordIIITPet
            "https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz",
            creates="images",
            inside="images",
            checksum="md5:5c4f3ee8e5d25df40f4fd59a7f44e54c",
        ),
    )
    origin: ClassVar[Origin] = Origin(
        title="Oxford-IIIT Pets",
        licence="CC BY-SA 4.0",
        home="https://www.robots.ox.ac.uk/~vgg/data/pets",
        citation="Parkhi, Vedaldi, Zisserman, Jawahar: Cats and dogs, CVPR 2012",
        counts=Counts(train=2944, val=736, test=3669, classes=37),
    )
