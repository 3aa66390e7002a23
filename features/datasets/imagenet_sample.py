"""One test image of each of ImageNet's 1,000 classes, `n01440764_tench.JPEG`, in one folder.

A class with one image cannot be used for training and for testing, so this is only a target of `cross_dataset`.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from features.datasets.base import Counts, Image, Listing, Origin, Published
from features.errors import Problems, raise_all
from features.splits.imagenet_classes import CLASSNAMES, REPEATED, class_names, wordnet_ids
from features.splits.listed import EXTENSIONS, FIX_HINT


class ImageNetSample(Published):
    """Options of `reader: imagenet_sample`."""

    path: str = "imagenet-sample"

    layout: ClassVar[str] = "n01440764_tench.JPEG ..., one file per class, named by its WordNet id"
    source: ClassVar[str] = (
        "ImageNet's terms forbid passing it on; make it from your own copy of ImageNet: one file per class, in "
        "data.root/imagenet-sample"
    )
    origin: ClassVar[Origin] = Origin(
        title="ImageNet, one image a class",
        licence="non-commercial research and education",
        home="https://image-net.org",
        citation="Deng, Dong, Socher, Li, Li, Fei-Fei: ImageNet: a large-scale hierarchical image database, CVPR 2009",
        counts=Counts(train=0, val=0, test=1000, classes=1000),
    )

    def read(self, root: Path) -> Listing:
        """List the files; the WordNet id is the name up to the first `_`. See `Reader.read`."""
        folder = self.folder(root)
        problems = Problems()
        class_ids = {wnid: i for i, wnid in enumerate(wordnet_ids("imagenet"))}
        names = problems.attempt(lambda: class_names(folder / CLASSNAMES)) or dict(
            zip(class_ids, class_ids, strict=True)
        )
        files = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in EXTENSIONS)

        unknown = [file for file in files if _id(file) not in class_ids]
        problems.messages += [f"{file}: {_id(file)!r} is not a WordNet id of ImageNet" for file in unknown]
        absent = sorted(class_ids.keys() - {*map(_id, files)})
        if not self.allow_partial:
            problems.attempt(lambda: raise_all(absent, f"{folder} lacks images of classes; {FIX_HINT}"))
        return Listing(
            images=tuple(Image(file, class_ids[_id(file)], "test") for file in files if _id(file) in class_ids),
            classes=tuple(names.values()),
            templates=self.templates,
            origin=self.origin,
            missing=len(absent) if self.allow_partial else 0,
            repeated_names=REPEATED,
            faults=tuple(problems.messages),
        )


def _id(file: str) -> str:
    return file.partition("_")[0]
