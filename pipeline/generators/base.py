"""The contract of every file in `pipeline/generators/`: settings that `fit`, and fitted generators that `sample`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from features.settings import Settings
from features.text.text_tower import TextTower
from pipeline.training.data import ClassSet, LabelledFeatures

Log = Callable[[dict[str, float]], None]


class FittedGenerator(nn.Module):
    """Synthetic features of a class from its name. Its parameters are all there is to save."""

    @abstractmethod
    def sample(self, class_ids: Tensor, classes: ClassSet, tower: TextTower, rng: torch.Generator) -> Tensor:
        """One synthetic unit feature for each of class_ids (N,), any of the task's classes: (N, D)."""

    def latents(self, images: LabelledFeatures, classes: ClassSet) -> tuple[Tensor, Tensor] | None:  # noqa: ARG002
        """What its encoder reads in N images: mu and log sigma^2 (N, Z) of the posterior; None: it has no encoder."""
        return None


class Generator(Settings):
    """Base of every generator: its hyper-parameters are the fields, its data comes in `fit`."""

    epochs: int  # passes over the seen images, a row of the log each

    @abstractmethod
    def build(self, embed_dim: int, tower: TextTower, rng: torch.Generator) -> FittedGenerator:
        """The untrained generator for features of `embed_dim` D; its weights are drawn from `rng`, on the CPU."""

    @abstractmethod
    def fit(
        self, train: LabelledFeatures, classes: ClassSet, tower: TextTower, rng: torch.Generator, log: Log
    ) -> FittedGenerator:
        """Train on the seen classes' real features (N, K, D), on the device that they lie on.

        Args:
            train: real features of seen classes.
            classes: the seen classes; nothing may be learned from the names of others, which may be added later.
            tower: the frozen text tower, on the same device.
            rng: on the CPU, so that a seed draws the same on every device.
            log: called once an epoch with numbers by name; `epoch` among them.

        Raises:
            InputError: training did not stay finite.
        """
