"""ImageNetV2, matched frequency: 10,000 new test images of ImageNet's 1,000 classes, ten of each."""

from __future__ import annotations

from typing import ClassVar

from features.datasets.base import Archive, Counts, Origin
from features.splits.imagenet_classes import ImageNetTestSet


class ImageNetV2(ImageNetTestSet):
    """Options of `reader: imagenetv2`."""

    path: str = "imagenetv2"

    layout: ClassVar[str] = "imagenetv2-matched-frequency-format-val/0/*.jpeg ..., as CoOp's instructions make it"
    source: ClassVar[str] = "`shipyard data get imagenetv2` fetches it"
    images: ClassVar[tuple[str, ...]] = ("imagenetv2-matched-frequency-format-val",)
    numbered: ClassVar[bool] = True
    archives: ClassVar[tuple[Archive, ...]] = (
        Archive(  # address: the authors'; sha256: tensorflow_datasets (older releases: of another address)
            "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz",
            creates="imagenetv2-matched-frequency-format-val",
            inside="imagenetv2-matched-frequency-format-val",
            checksum="sha256:f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c",
        ),
    )
    origin: ClassVar[Origin] = Origin(
        title="ImageNetV2 (matched frequency)",
        licence="MIT",
        home="https://github.com/modestyachts/ImageNetV2",
        citation="Recht, Roelofs, Schmidt, Shankar: Do ImageNet classifiers generalize to ImageNet?, ICML 2019",
        counts=Counts(train=0, val=0, test=10_000, classes=1000),
    )
