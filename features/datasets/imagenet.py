"""ImageNet (ILSVRC 2012): 1,000 classes; its validation images are the test images, as in all the papers.

Few-shot tasks draw 16 of about 1,280 training images a class, so a pool is drawn once, by name, and only it is hashed
and extracted. The names of all files are still listed, and counted against the published numbers.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from features.datasets.base import Counts, Image, Listing, Origin, Published
from features.errors import InputError, Problems
from features.formats.untrusted import wrap_parser_errors
from features.splits.imagenet_classes import CLASSNAMES, REPEATED, class_files, class_names, lacking, wordnet_ids

KAGGLE_LABELS = "LOC_val_solution.csv"


class ImageNet(Published):
    """Options of `reader: imagenet`.

    Attributes:
        pool_per_class: most training images a class that tasks may draw from; null: all 1.28 million.
    """

    path: str = "imagenet"
    pool_per_class: Annotated[int, Field(ge=1)] | None = 64

    layout: ClassVar[str] = (
        "images/train/n01440764/*.JPEG ... and images/val/n01440764/*.JPEG, as CoOp's instructions make it"
    )
    source: ClassVar[str] = (
        "it is behind a form: register at https://image-net.org/download-images, fetch ILSVRC2012_img_train.tar, "
        "ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz into data.root/imagenet/images, and there call "
        "torchvision.datasets.ImageNet('.', 'train') and torchvision.datasets.ImageNet('.', 'val'), which unpack them "
        "into class folders"
    )
    images: ClassVar[tuple[str, ...]] = ("images", "ILSVRC/Data/CLS-LOC", "")  # CoOp's, Kaggle's, torchvision's
    origin: ClassVar[Origin] = Origin(
        title="ImageNet (ILSVRC 2012)",
        licence="non-commercial research and education",
        home="https://image-net.org",
        citation="Deng, Dong, Socher, Li, Li, Fei-Fei: ImageNet: a large-scale hierarchical image database, CVPR 2009",
        counts=Counts(train=1_281_167, val=0, test=50_000, classes=1000),
    )

    def read(self, root: Path) -> Listing:
        """List the pool and the validation images; see `Reader.read`."""
        problems = Problems()
        folder = problems.attempt(lambda: self.folder(root))
        ids = wordnet_ids("imagenet")
        named = problems.attempt(lambda: class_names(root / self.path / CLASSNAMES))
        if folder is None:
            raise self.unreadable(problems)
        train = problems.attempt(lambda: self._train(folder, ids, problems)) or {}
        test = problems.attempt(lambda: self._test(folder, root, ids, problems)) or {}
        if not (named and train and test):
            raise self.unreadable(problems)
        pool = {wnid: self._pool(files) for wnid, files in train.items()}
        missing = 0
        if self.allow_partial and self.origin.counts:
            missing = lacking(self.origin.counts.train, train) + lacking(self.origin.counts.test, test)
        return Listing(
            tuple(
                [Image(f"train/{w}/{file}", i, "train") for i, w in enumerate(ids) for file in pool[w]]
                + [Image(f"val/{file}", i, "test") for i, w in enumerate(ids) for file in test[w]]
            ),
            tuple(named.values()),
            self.templates,
            self.origin,
            missing=missing,
            repeated_names=REPEATED,
            left_out=sum(map(len, train.values())) - sum(map(len, pool.values())),
            faults=tuple(problems.messages),
        )

    def _train(self, folder: Path, ids: list[str], problems: Problems) -> dict[str, list[str]]:
        """The training images of each class."""
        self._refuse_missing(folder / "train")
        return class_files(folder / "train", ids, allow_partial=self.allow_partial, problems=problems)

    def _test(self, folder: Path, root: Path, ids: list[str], problems: Problems) -> dict[str, list[str]]:
        """The validation images of each class, below `val`: in class folders, or in one folder with Kaggle's table."""
        place = folder / "val"
        self._refuse_missing(place)
        if not any(entry.is_dir() for entry in place.iterdir()):
            return _flat(place, root / self.path / KAGGLE_LABELS, ids)
        by_class = class_files(place, ids, allow_partial=self.allow_partial, problems=problems)
        return {wnid: [f"{wnid}/{file}" for file in files] for wnid, files in by_class.items()}

    def _refuse_missing(self, place: Path) -> None:
        if not place.is_dir():
            raise InputError(f"there is no folder {place}.\n  expected: {self.layout}\n  fix: {self.source}")

    def _pool(self, files: list[str]) -> list[str]:
        """The files whose names have the smallest digests: the same in every copy, whatever else is in the folder."""
        return sorted(files, key=lambda name: hashlib.sha256(name.encode(errors="surrogateescape")).digest())[
            : self.pool_per_class
        ]


def _flat(place: Path, labels: Path, ids: list[str]) -> dict[str, list[str]]:
    """Validation images that lie in one folder, by class as Kaggle's table says.

    Raises:
        InputError: there is no such table, or it is another one.
    """
    if not labels.is_file():
        raise InputError(
            f"{place} holds no class folders, and there is no {labels}, which would say the images' classes.\n"
            "  fix: call torchvision.datasets.ImageNet('.', 'val') beside the archives, or add Kaggle's table"
        )
    there = {entry.stem: entry.name for entry in place.iterdir()}
    found: dict[str, list[str]] = {wnid: [] for wnid in ids}
    with wrap_parser_errors(labels, "get it anew"), labels.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            match row:
                case {"ImageId": image, "PredictionString": said} if said and said.split()[0] in found:
                    found[said.split()[0]] += [there[image]] if image in there else []
                case _:
                    raise InputError(f"{labels} is not Kaggle's table: no ImageId and WordNet id in {row}")
    return found
