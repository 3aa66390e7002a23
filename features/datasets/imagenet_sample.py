"""One image of each of ImageNet's 1,000 classes, `n01440764_tench.JPEG`, in one folder: test images and nothing else.

With a single image a class nothing can be learned and judged at once, so it is a target of `cross_dataset` alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from features.datasets.base import Counts, Image, Listing, Origin, Published
from features.errors import raise_all
from features.imagenet_classes import CLASSNAMES, REPEATED, class_names
from features.listed import EXTENSIONS


class ImageNetSample(Published):
    """Options of `reader: imagenet_sample`."""

    path: str = "imagenet-sample"

    layout: ClassVar[str] = "n01440764_tench.JPEG ..., a file a class, called by its WordNet id"
    source: ClassVar[str] = (
        "it lies beside the project on its own machines, and ImageNet's terms forbid passing it on; make one of your "
        "own ImageNet: a file a class, in data.root/imagenet-sample"
    )
    origin: ClassVar[Origin] = Origin(
        title="ImageNet, one image a class",
        licence="non-commercial research and education",
        home="https://image-net.org",
        citation="Deng, Dong, Socher, Li, Li, Fei-Fei: ImageNet: a large-scale hierarchical image database, CVPR 2009",
        counts=Counts(train=0, val=0, test=1000, classes=1000),
    )

    def read(self, root: Path) -> Listing:
        """List the files, each by the id before its first `_`; see `Reader.read`."""
        folder = self.folder(root)
        names = class_names(folder / CLASSNAMES)
        ids = {wnid: i for i, wnid in enumerate(names)}
        files = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in EXTENSIONS)
        strange = [f"{file}: {_id(file)!r} is no WordNet id of ImageNet" for file in files if _id(file) not in ids]
        raise_all(strange, f"{folder} does not hold one image a class")
        missing = max(0, len(ids) - len(files)) if self.allow_partial else 0
        images = tuple(Image(file, ids[_id(file)], "test") for file in files)
        return Listing(
            images, tuple(names.values()), self.templates, self.origin, missing=missing, repeated_names=REPEATED
        )


def _id(file: str) -> str:
    return file.partition("_")[0]
