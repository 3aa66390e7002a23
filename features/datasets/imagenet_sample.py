"""One image of each of ImageNet's 1,000 classes, `n01440764_tench.JPEG`, in one folder: test images and nothing else.

With a single image a class nothing can be learned and judged at once, so it is a target of `cross_dataset` alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from features.datasets.base import Counts, Image, Listing, Origin, Published
from features.errors import Problems, raise_all
from features.splits.imagenet_classes import CLASSNAMES, REPEATED, class_names, wordnet_ids
from features.splits.listed import EXTENSIONS, MEND


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
        folder, problems = self.folder(root), Problems()
        ids = {wnid: i for i, wnid in enumerate(wordnet_ids("imagenet"))}
        names = problems.attempt(lambda: class_names(folder / CLASSNAMES)) or dict(zip(ids, ids, strict=True))
        files = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in EXTENSIONS)
        strange = [file for file in files if _id(file) not in ids]
        problems.messages += [f"{file}: {_id(file)!r} is no WordNet id of ImageNet" for file in strange]
        absent = sorted(ids.keys() - {*map(_id, files)})
        if not self.allow_partial:
            problems.attempt(lambda: raise_all(absent, f"{folder} lacks images of classes; {MEND}"))
        return Listing(
            images=tuple(Image(file, ids[_id(file)], "test") for file in files if _id(file) in ids),
            classes=tuple(names.values()),
            templates=self.templates,
            origin=self.origin,
            missing=len(absent) if self.allow_partial else 0,
            repeated_names=REPEATED,
            faults=tuple(problems.messages),
        )


def _id(file: str) -> str:
    return file.partition("_")[0]
