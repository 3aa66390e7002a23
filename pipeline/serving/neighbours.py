"""The training images that are nearest to an image in the encoder's feature space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from features.datasets.base import reader_from
from features.encoding.images import Reading, UnreadableImageError
from features.errors import InputError
from features.index_table import read_index
from features.shards.archives import Base
from features.shards.source import ImageRef, ImageSource
from pipeline.artifacts import paths
from pipeline.artifacts.task import load_train
from pipeline.config.params import PATH, Params
from pipeline.inference.predict import Model


@dataclass(frozen=True, eq=False)
class Neighbour:
    """A training image: its number, the name of its class, its path in the index, and its cosine with the image."""

    number: int
    name: str
    path: str
    similarity: float


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """The N training images of a run.

    Attributes:
        features: (N, D) float32 unit features of the centre crops.
        labels: N class names.
        images: N images of the index.
        base: the folder or the address of the data set, which may not be on this machine.
        reading: how their pixels are read.
    """

    features: Tensor
    labels: Sequence[str]
    images: Sequence[ImageRef]
    base: Base
    reading: Reading

    def nearest(self, feature: Tensor, count: int) -> list[Neighbour]:
        """Return the images with the highest cosine with a unit feature (D,), highest first."""
        if not len(self.features):
            return []
        best = (self.features @ feature).topk(min(count, len(self.features)))
        return [
            Neighbour(i, self.labels[i], self.images[i].path, cosine)
            for i, cosine in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def image(self, number: int) -> ImageRef | None:
        """Return a training image; None if there is no such number. No path comes from outside."""
        return self.images[number] if 0 <= number < len(self.images) else None

    def read(self, image: ImageRef) -> bytes:
        """Return the bytes of a training image.

        Raises:
            UnreadableImageError: it is not on this machine, or cannot be read.
        """
        [data] = ImageSource(self.base).read([image])
        if isinstance(data, str):
            raise UnreadableImageError(data)
        return data


def training_images(params: Params, model: Model) -> TrainingImages:
    """Read the training images that a run was fitted to.

    Raises:
        InputError: the task or the index is missing, or the index is newer than the task.
    """
    cell = paths.EncoderPaths(params.artifacts).cell(model.task, model.task)
    task = load_train(cell.train)
    rows = task.rows(model.seed)
    index = read_index(paths.index(model.task))
    positions = index.rows("train")
    if len(rows.rows) and rows.rows.max() >= len(positions):
        raise InputError(f"{cell.train} was made from another index: run `shipyard run {model.task}`")

    reader = reader_from(params.data.sets[model.task], f"{PATH}: data.sets.{model.task}")
    centre = torch.from_numpy(rows.features[:, 0].astype(np.float32))
    return TrainingImages(
        features=F.normalize(centre, dim=-1),
        labels=[task.classes.names[label] for label in rows.labels.tolist()],
        images=[index.image(int(positions[row])) for row in rows.rows.tolist()],
        base=reader.base(Path(params.data.root)),
        reading=model.reading,
    )
