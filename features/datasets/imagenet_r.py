"""ImageNet-R: 30,000 paintings, toys, drawings and the like of 200 of ImageNet's classes."""

from __future__ import annotations

from typing import ClassVar

from features.datasets.base import Archive, Counts, Origin
from features.splits.imagenet_classes import ImageNetTestSet


class ImageNetR(ImageNetTestSet):
    """Options of `reader: imagenet_r`."""

    path: str = "imagenet-rendition"

    layout: ClassVar[str] = "imagenet-r/n01443537/*.jpg ..., as CoOp's instructions make it"
    source: ClassVar[str] = "`shipyard data get imagenet_r` fetches it"
    images: ClassVar[tuple[str, ...]] = ("imagenet-r",)
    subset: ClassVar[str] = "imagenet_r"
    archives: ClassVar[tuple[Archive, ...]] = (
        Archive(  # address: the authors'; sha256: tensorflow_datasets
            "https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",
            creates="imagenet-r",
            inside="imagenet-r",
            checksum="sha256:18c6bf493b39a0d975d48e587437f562caab9c52ae6327dcfa9dd8eb54aa1b52",
        ),
    )
    origin: ClassVar[Origin] = Origin(
        title="ImageNet-R",
        licence="MIT",
        home="https://github.com/hendrycks/imagenet-r",
        citation="Hendrycks et al.: The many faces of robustness, ICCV 2021",
        counts=Counts(train=0, val=0, test=30_000, classes=200),
    )
