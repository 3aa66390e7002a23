"""ImageNet-A: 7,500 photographs of 200 of ImageNet's classes that a ResNet-50 gets wrong."""

from __future__ import annotations

from typing import ClassVar

from features.datasets.base import Archive, Counts, Origin
from features.splits.imagenet_classes import ImageNetTestSet


class ImageNetA(ImageNetTestSet):
    """Options of `reader: imagenet_a`."""

    path: str = "imagenet-adversarial"

    layout: ClassVar[str] = "imagenet-a/n01498041/*.jpg ..., as CoOp's instructions make it"
    source: ClassVar[str] = "`shipyard data get imagenet_a` fetches it"
    images: ClassVar[tuple[str, ...]] = ("imagenet-a",)
    subset: ClassVar[str] = "imagenet_a"
    archives: ClassVar[tuple[Archive, ...]] = (
        Archive(  # address: the authors'; sha256: tensorflow_datasets
            "https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",
            creates="imagenet-a",
            inside="imagenet-a",
            checksum="sha256:3bb3632277e6ba6392ea64c02ddbf4dd2266c9caffd6bc09c9656d28f012589e",
        ),
    )
    origin: ClassVar[Origin] = Origin(
        title="ImageNet-A",
        licence="MIT",
        home="https://github.com/hendrycks/natural-adv-examples",
        citation="Hendrycks, Zhao, Basart, Steinhardt, Song: Natural adversarial examples, CVPR 2021",
        counts=Counts(train=0, val=0, test=7_500, classes=200),
    )
