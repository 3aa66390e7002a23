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

    def bound(self, tower: TextTower) -> Self:  # noqa: ARG002
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
    def fit(
        self,
        train: LabelledFeatures,
        classes: ClassSet,
        *,
        synthetic: LabelledFeatures | None,
        validation: LabelledFeatures,
        tower: TextTower | None,
        rng: torch.Generator,
    ) -> Classifier:
        """Fit on real features of the seen classes, and on synthetic ones of the unseen if given.

        Args:
            train: (N, K, D), labels among the seen classes.
            classes: the task's classes.
            synthetic: (M, 1, D) of the unseen classes, or None for the plain method.
            validation: (V, 1, D) of the seen classes; V may be 0.
            tower: the text tower if `needs_text_tower`.
            rng: on the CPU, so that a seed draws the same on every device.

        Raises:
            InputError: training did not stay finite.
        """


def everything_scored(classes: ClassSet) -> Tensor:
    """(C,) bool: a classifier that needs only a class's name scores them all."""
    return torch.ones_like(classes.seen)


def scale_of(classes: ClassSet) -> Tensor:
    """CLIP's logit scale as a tensor beside the text features."""
    return torch.tensor(classes.logit_scale, device=classes.text_features.device)
