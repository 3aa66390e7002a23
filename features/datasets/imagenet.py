"""ImageNet (ILSVRC 2012): 1,000 classes; its validation images are the test images, as in all the papers.

Few-shot tasks draw 16 of about 1,280 training images per class. Therefore a pool is selected once, by file name, and
only the pool is hashed and extracted. All files are listed and compared with the published numbers.
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
from features.splits.imagenet_classes import CLASSNAMES, REPEATED, class_files, class_names, missing_count, wordnet_ids

KAGGLE_LABELS = "LOC_val_solution.csv"


class ImageNet(Published):
    """Options of `reader: imagenet`.

    Attributes:
        pool_per_class: Maximum number of training images per class that tasks may draw from; null: all 1.28 million.
    """

    path: str = "imagenet"
    pool_per_class: Annotated[int, Field(ge=1)] | None = 64

    layout: ClassVar[str] = (
        "images/train/n01440764/*.JPEG ... and images/val/n01440764/*.JPEG, as CoOp's instructions make it"
    )
    source: ClassVar[str] = (
        "it needs a registration: at https://image-net.org/download-images, get ILSVRC2012_img_train.tar, "
        "ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz into data.root/imagenet/images, and call there "
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
        names = problems.attempt(lambda: class_names(root / self.path / CLASSNAMES))
        if folder is None:
            raise self.unreadable(problems)

        train = problems.attempt(lambda: self._train(folder, ids, problems)) or {}
        test = problems.attempt(lambda: self._test(folder, root, ids, problems)) or {}
        if not (names and train and test):
            raise self.unreadable(problems)

        pool = {wnid: self._pool(files) for wnid, files in train.items()}
        missing = 0
        if self.allow_partial and self.origin.counts:
            missing = missing_count(self.origin.counts.train, train) + missing_count(self.origin.counts.test, test)
        return Listing(
            tuple(
                [Image(f"train/{w}/{file}", i, "train") for i, w in enumerate(ids) for file in pool[w]]
                + [Image(f"val/{file}", i, "test") for i, w in enumerate(ids) for file in test[w]]
            ),
            tuple(names.values()),
            self.templates,
            self.origin,
            missing=missing,
            repeated_names=REPEATED,
            left_out=sum(map(len, train.values())) - sum(map(len, pool.values())),
            faults=tuple(problems.messages),
        )

    def _train(self, folder: Path, ids: list[str], problems: Problems) -> dict[str, list[str]]:
        """Return the training images of each class."""
        self._check_folder(folder / "train")
        return class_files(folder / "train", ids, allow_partial=self.allow_partial, problems=problems)

    def _test(self, folder: Path, root: Path, ids: list[str], problems: Problems) -> dict[str, list[str]]:
        """Return the validation images of each class, from class folders or from one folder with Kaggle's table."""
        val = folder / "val"
        self._check_folder(val)
        if not any(entry.is_dir() for entry in val.iterdir()):
            return _from_kaggle_table(val, root / self.path / KAGGLE_LABELS, ids)
        by_class = class_files(val, ids, allow_partial=self.allow_partial, problems=problems)
        return {wnid: [f"{wnid}/{file}" for file in files] for wnid, files in by_class.items()}

    def _check_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"there is no folder {folder}.\n  expected: {self.layout}\n  fix: {self.source}")

    def _pool(self, files: list[str]) -> list[str]:
        """Return the files whose names have the smallest digests.

        The pool is thus the same in every copy, also in one that lacks other files.
        """
        ranked = sorted(files, key=lambda name: hashlib.sha256(name.encode(errors="surrogateescape")).digest())
        return ranked[: self.pool_per_class]


def _from_kaggle_table(folder: Path, table: Path, ids: list[str]) -> dict[str, list[str]]:
    """Return the validation images of one folder by class, as Kaggle's table assigns them.

    Raises:
        InputError: The table does not exist or has other columns.
    """
    if not table.is_file():
        raise InputError(
            f"{folder} has no class folders, and there is no {table}, which assigns the images to classes.\n"
            "  fix: call torchvision.datasets.ImageNet('.', 'val') beside the archives, or add Kaggle's table"
        )

    names_by_stem = {entry.stem: entry.name for entry in folder.iterdir()}
    by_class: dict[str, list[str]] = {wnid: [] for wnid in ids}
    with wrap_parser_errors(table, "get a new copy"), table.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            match row:
                # A prediction starts with the WordNet id; the numbers of a box follow.
                case {"ImageId": image, "PredictionString": prediction} if (
                    prediction and prediction.split()[0] in by_class
                ):
                    if image in names_by_stem:
                        by_class[prediction.split()[0]].append(names_by_stem[image])
                case _:
                    raise InputError(f"{table} is not Kaggle's table: no ImageId and WordNet id in {row}")
    return by_class
