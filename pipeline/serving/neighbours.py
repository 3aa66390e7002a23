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
from features.encoding.images import Reading
from features.errors import InputError
from features.index import read_index
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
        paths: N paths relative to `folder`.
        folder: the folder of the data set, which may not be on this machine.
        reading: how their pixels are read.
    """

    features: Tensor
    labels: Sequence[str]
    paths: Sequence[str]
    folder: Path
    reading: Reading

    def nearest(self, feature: Tensor, count: int) -> list[Neighbour]:
        """Return the images with the highest cosine with a unit feature (D,), highest first."""
        if not len(self.features):
            return []
        best = (self.features @ feature).topk(min(count, len(self.features)))
        return [
            Neighbour(i, self.labels[i], self.paths[i], cosine)
            for i, cosine in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def file(self, number: int) -> Path | None:
        """Return the file of a training image; None if there is no such number. No path comes from outside."""
        return self.folder / self.paths[number] if 0 <= number < len(self.paths) else None


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
        paths=[index.paths[int(positions[row])] for row in rows.rows.tolist()],
        folder=reader.folder(Path(params.data.root)),
        reading=model.reading,
    )
