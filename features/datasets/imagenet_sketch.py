"""ImageNet-Sketch: 50,889 drawings of ImageNet's 1,000 classes."""

from __future__ import annotations

from typing import ClassVar

from features.datasets.base import Archive, Counts, Origin
from features.splits.imagenet_classes import ImageNetTestSet


class ImageNetSketch(ImageNetTestSet):
    """Options of `reader: imagenet_sketch`."""

    path: str = "imagenet-sketch"

    layout: ClassVar[str] = "images/n01440764/*.JPEG ..., as CoOp's instructions make it"
    source: ClassVar[str] = "`shipyard data get imagenet_sketch` fetches it"
    images: ClassVar[tuple[str, ...]] = ("images", "sketch")  # the second: the unpacked archive
    archives: ClassVar[tuple[Archive, ...]] = (
        # Address: a co-author's. Nobody publishes a checksum of this file; tensorflow_datasets has that of a copy at
        # Google Drive, which may be another file.
        Archive(
            "https://huggingface.co/datasets/songweig/imagenet_sketch/resolve/main/data/ImageNet-Sketch.zip",
            creates="sketch",
            inside="sketch",
        ),
    )
    origin: ClassVar[Origin] = Origin(
        title="ImageNet-Sketch",
        licence="MIT",
        home="https://github.com/HaohanWang/ImageNet-Sketch",
        citation="Wang, Ge, Lipton, Xing: Learning robust global representations, NeurIPS 2019",
        counts=Counts(train=0, val=0, test=50_889, classes=1000),
    )
