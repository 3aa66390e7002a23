"""The contract of every file in `pipeline/generators/`: settings with `fit`, and fitted generators with `sample`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from features.settings import Settings
from features.text.text_tower import TextTower
from pipeline.training.data import ClassSet, LabelledFeatures

Log = Callable[[dict[str, float]], None]  # called once per epoch with numbers by name, `epoch` among them


class FittedGenerator(nn.Module):
    """A trained generator, which synthesizes features of a class from its name.

    Its state dict is all that is saved.
    """

    @abstractmethod
    def sample(self, class_ids: Tensor, classes: ClassSet, tower: TextTower, rng: torch.Generator) -> Tensor:
        """Synthesize one unit feature for each class id.

        Args:
            class_ids: (N,) positions in `classes`; a class may repeat and may be unseen.
            classes: the task's classes.
            tower: the frozen text tower, on the same device.
            rng: the source of latents, on the CPU.

        Returns:
            (N, D) unit features.
        """

    def encode(self, images: LabelledFeatures, classes: ClassSet) -> tuple[Tensor, Tensor] | None:  # noqa: ARG002
        """Return mu and log sigma^2 (N, Z) of the latents of N images, or None for a generator without an encoder."""
        return None


class Generator(Settings):
    """Base of every generator: its fields are the hyper-parameters; its data comes in `fit`.

    Class attributes:
        reads_images: whether the fitted generator is a `PromptVae`, which turns an image into a prompt.
    """

    reads_images: ClassVar[bool] = False

    epochs: PositiveInt  # passes over the seen images, each a row of the log
    view_family: str | None = None  # stored views to learn from, a key of extract.view_families; null: the first family

    @property
    def learned_vectors(self) -> int:
        """Return the vectors of a synthesized prompt, beside which class names must fit; 0 without such prompts."""
        return int(getattr(self, "prompt_length", 0))

    @abstractmethod
    def build(self, embed_dim: int, tower: TextTower, rng: torch.Generator) -> FittedGenerator:
        """Return the untrained generator.

        Args:
            embed_dim: D, of features.
            tower: the text tower, which gives the token width.
            rng: the source of the first weights, on the CPU.
        """

    @abstractmethod
    def fit(
        self, train: LabelledFeatures, classes: ClassSet, tower: TextTower, rng: torch.Generator, log: Log
    ) -> FittedGenerator:
        """Train on real features of the seen classes, on their device.

        Args:
            train: (N, K, D) real features of seen classes.
            classes: the task's classes. Only the seen ones may influence the result, because unseen ones may be added
                later.
            tower: the frozen text tower, on the same device.
            rng: on the CPU, so that a seed draws the same on every device.
            log: called once per epoch with numbers by name, `epoch` among them.

        Raises:
            InputError: the trained parameters are not finite.
        """
