"""Stanford Cars with CoOp's split: 196 classes, 6,509 / 1,635 / 8,041 images (CoOp, appendix, Table 5).

The official addresses no longer exist. Copies from Kaggle have the images one folder deeper (`cars_train/cars_train/`).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from features.datasets.base import Counts, Origin
from features.splits.split_zhou import SplitReader


class StanfordCars(SplitReader):
    """Options of `reader: stanford_cars`."""

    path: str = "stanford_cars"

    layout: ClassVar[str] = "cars_train/00001.jpg ... and cars_test/00001.jpg ..., as CoOp's instructions make it"
    source: ClassVar[str] = (
        "its official address no longer exists. Copies of cars_train.tgz and cars_test.tgz are on Kaggle, which needs "
        "an account (jessicali9530/stanford-cars-dataset); unpack both into data.root/stanford_cars"
    )
    split_file: ClassVar[str] = "split_zhou_StanfordCars.json"
    packaged_split: ClassVar[Path | None] = Path(__file__).with_suffix(".json.gz")
    origin: ClassVar[Origin] = Origin(
        title="Stanford Cars",
        licence="non-commercial research",
        home="https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
        citation="Krause, Stark, Deng, Fei-Fei: 3D object representations for fine-grained categorization, ICCV-W 2013",
        counts=Counts(train=6509, val=1635, test=8041, classes=196),
    )

    def path_on_disk(self, path: str, folder: Path) -> str:
        """Return the path with its folder repeated, if this is Kaggle's copy."""
        part = path.partition("/")[0]
        return f"{part}/{path}" if (folder / part / part).is_dir() else path
