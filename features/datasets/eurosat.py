"""EuroSAT (RGB) with CoOp's split: 10 classes, 13,500 / 5,400 / 8,100 images (CoOp, appendix, Table 5)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from features.datasets.base import Archive, Counts, Origin, Templates
from features.splits.split_zhou import SplitReader


class EuroSat(SplitReader):
    """Options of `reader: eurosat`."""

    path: str = "eurosat"

    layout: ClassVar[str] = "2750/AnnualCrop/AnnualCrop_1.jpg ..., as CoOp's instructions make it"
    source: ClassVar[str] = "`shipyard data get eurosat` fetches it"
    images: ClassVar[tuple[str, ...]] = ("2750", "EuroSAT_RGB")  # the second: the archive at Zenodo
    split_file: ClassVar[str] = "split_zhou_EuroSAT.json"
    packaged_split: ClassVar[Path | None] = Path(__file__).with_suffix(".json.gz")
    templates: Templates = ("a centered satellite photo of {}.",)
    archives: ClassVar[tuple[Archive, ...]] = (
        Archive(  # address and md5: torchvision.datasets.EuroSAT
            "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
            creates="2750",
            inside="2750",
            checksum="md5:c8fa014336c82ac7804f0398fcb19387",
        ),
    )
    origin: ClassVar[Origin] = Origin(
        title="EuroSAT (RGB)",
        licence="MIT",
        home="https://github.com/phelber/EuroSAT",
        citation="Helber, Bischke, Dengel, Borth: EuroSAT: a novel dataset for land use and land cover, JSTARS 2019",
        counts=Counts(train=13500, val=5400, test=8100, classes=10),
    )
