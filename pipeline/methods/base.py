"""The contract of every file in `pipeline/methods/`: settings that `fit`, and classifiers that score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar, Self

import torch
from torch import Tensor

from features.errors import InputError
from features.settings import Settings
from features.text.text_tower import TextTower
from pipeline.training.data import ClassSet, LabelledFeatures


@dataclass(frozen=True)
class Classifier(ABC):
    """A fitted method: tensors and nothing else, so that saving it is saving them.

    Attributes:
        logit_scale: () float32, what a cosine is multiplied by.
        scored: (C,) bool, the classes of the task that it can score.
    """

    logit_scale: Tensor
    scored: Tensor

    def logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        """Score features against M of the task's classes: (N, M).

        Args:
            features: (N, D) unit; patch tokens (N, P, D) as they are stored for a method that `needs_patches`.
            class_ids: (M,).

        Raises:
            InputError: classes that this classifier cannot score, or features that are not finite or of another
                dimension.
        """
        if not bool(self.scored[class_ids].all()):
            missing = class_ids[~self.scored[class_ids]].tolist()
            raise InputError(f"{len(missing)} of {len(class_ids)} classes cannot be scored: no image stands for them")
        if features.shape[-1] != self.dimension:
            raise InputError(f"features of {features.shape[-1]} dimensions; this classifier's have {self.dimension}")
        if not bool(features.isfinite().all()):
            broken = int((~features.isfinite()).flatten(1).any(-1).sum())
            raise InputError(f"{broken} of {len(features)} features are NaN or infinite; extract them anew")
        return self._logits(features, class_ids)

    @property
    def dimension(self) -> int:
        """D of the features that it scores."""
        return self.state()["weights"].shape[-1]

    @abstractmethod
    def _logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        """`logits` of classes that are known to be scored."""

    def state(self) -> dict[str, Tensor]:
        """Every tensor by its name: all there is to save."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

    def with_text_tower(self, tower: TextTower) -> Self:  # noqa: ARG002
        """The same classifier with the tower that it scores with; itself, unless it reads prompts for each image."""
        return self


@dataclass(frozen=True)
class LinearClassifier(Classifier):
    """logits = logit_scale * f w^T with one unit vector a class: weights (C, D)."""

    weights: Tensor

    def _logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        return self.logit_scale * features @ self.weights[class_ids].T


@dataclass(frozen=True)
class PromptedClassifier(LinearClassifier):
    """A linear classifier of text features, with the contexts (G, M, W) that were learned, to be read back as words."""

    context: Tensor


@dataclass(frozen=True)
class FitData:
    """Everything that a method is fitted on; test images are never part of it.

    All tensors lie on the device of the work, except tokens (see `pipeline.training.data`).

    Attributes:
        train: N real images of the seen classes in K views, features (N, K, D).
        classes: the C classes of the task, seen and unseen.
        synthetic: M synthetic features of the unseen classes (M, 1, D), or None without a generator.
        validation: V validation images of the seen classes (V, 1, D); V may be 0.
        tower: the frozen text tower, for a method that `needs_text_tower`; else it may be None.
        rng: source of all randomness in `fit`; on the CPU, so that a seed draws the same numbers on every device.
    """

    train: LabelledFeatures
    classes: ClassSet
    synthetic: LabelledFeatures | None
    validation: LabelledFeatures
    tower: TextTower | None
    rng: torch.Generator

    @property
    def text_tower(self) -> TextTower:
        """Return the text tower.

        Raises:
            InputError: there is none.
        """
        if self.tower is None:
            raise InputError("this method needs the text tower (`needs_text_tower`): pass `tower` to `fit`")
        return self.tower

    @property
    def patch_tokens(self) -> Tensor:
        """Return the patch tokens (N, P, D) of the training images.

        Raises:
            InputError: there are none.
        """
        if self.train.patches is None:
            raise InputError(
                "this method needs patch tokens (`needs_patches`), but the training features have none: "
                "extract them with `extract.patch_tokens: true`"
            )
        return self.train.patches


class Method(Settings):
    """Base of every method: its hyper-parameters are the fields, its data comes in `fit`.

    Class attributes:
        classifier: what `fit` returns, so that a saved one can be read back.
        needs_text_tower: whether `fit` is given the tower; the stage loads it only then.
        scores_with_text_tower: whether its classifier reads prompts for each image, and must be `bound` to a tower.
        needs_patches: whether it reads patch tokens, in `fit` and in the place of features when it scores.
        takes_synthetic: whether `fit` can use labelled features of unseen classes, so that `+ship` makes sense.
    """

    classifier: ClassVar[type[Classifier]]
    needs_text_tower: ClassVar[bool] = False
    scores_with_text_tower: ClassVar[bool] = False
    needs_patches: ClassVar[bool] = False
    takes_synthetic: ClassVar[bool] = True

    @abstractmethod
    def fit(self, data: FitData) -> Classifier:
        """Fit on the real features of the seen classes, and on synthetic features of the unseen ones if there are any.

        Raises:
            InputError: training diverged, or `data` lacks the text tower or patch tokens that this method needs.
        """


def everything_scored(classes: ClassSet) -> Tensor:
    """(C,) bool: a classifier that needs only a class's name scores them all."""
    return torch.ones_like(classes.seen)


def scale_of(classes: ClassSet) -> Tensor:
    """CLIP's logit scale as a tensor beside the text features."""
    return torch.tensor(classes.logit_scale, device=classes.text_features.device)
