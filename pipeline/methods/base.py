"""The contract of every file in `pipeline/methods/`: settings with a `fit`, and classifiers that score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from features.errors import InputError
from features.settings import Settings
from features.text.text_tower import TextTower
from pipeline.training.data import ClassSet, LabelledFeatures


@dataclass(frozen=True)
class Classifier(ABC):
    """A fitted method: a frozen dataclass of tensors, so that saving the tensors saves the classifier.

    The names of the fields are the names of the tensors in fitted files.

    Attributes:
        logit_scale: () float32, the factor of a cosine.
        scored: (C,) bool, the classes of the task that it can score.
        searched: names of the tensors that were selected on validation images after everything else was fitted. A fit
            on a fold takes those of the run, because with others it would not be the same classifier.
    """

    searched: ClassVar[tuple[str, ...]] = ()

    logit_scale: Tensor
    scored: Tensor

    def logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        """Score features against M of the task's classes and return logits (N, M).

        Args:
            features: (N, D) unit rows; for a method that `needs_patches`, the feature of each image and its patch
                tokens (N, 1 + P, D) as they are stored (`LabelledFeatures.scored`).
            class_ids: (M,) positions in the task's classes.

        Raises:
            InputError: a class that this classifier cannot score, or features that are not finite or have another
                dimension.
        """
        scorable = self.scored[class_ids]
        if not bool(scorable.all()):
            raise InputError(
                f"{int((~scorable).sum())} of {len(class_ids)} classes cannot be scored: "
                "the method has no training features for them"
            )
        if features.shape[-1] != self.dimension:
            raise InputError(
                f"features have {features.shape[-1]} dimensions, but the classifier was fitted on {self.dimension}"
            )
        if not bool(features.isfinite().all()):
            broken = int((~features.isfinite()).flatten(1).any(-1).sum())
            raise InputError(f"{broken} of {len(features)} features are NaN or infinite; extract them again")
        return self._logits(features, class_ids)

    @property
    def dimension(self) -> int:
        """Return D of the features that it scores."""
        return self.state()["weights"].shape[-1]

    @abstractmethod
    def _logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        """Return `logits` of checked features and classes."""

    def state(self) -> dict[str, Tensor]:
        """Return every tensor by its name: everything that is saved."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def with_text_tower(self, tower: TextTower) -> Self:  # noqa: ARG002
        """Return the same classifier with the text tower that it scores with; itself if it needs none."""
        return self


@dataclass(frozen=True)
class LinearClassifier(Classifier):
    """A classifier with logits = logit_scale * f w^T.

    Attributes:
        weights: (C, D) unit rows w.
    """

    weights: Tensor

    def _logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        return self.logit_scale * features @ self.weights[class_ids].T


@dataclass(frozen=True)
class PromptedClassifier(LinearClassifier):
    """A linear classifier of the text features of learned prompts.

    Attributes:
        context: (G, M, W) learned context vectors, kept so that `words.csv` can show the words nearest to them.
    """

    context: Tensor


@dataclass(frozen=True)
class FitData:
    """Everything that a method is fitted on; test images are never part of it.

    All tensors lie on the device of the work, except tokens (see `pipeline.training.data`).

    Attributes:
        train: N real images of the seen classes in K views, features (N, K, D); those of the method's `view_family`.
        classes: the C classes of the task, seen and unseen.
        synthetic: M synthetic features of the unseen classes (M, 1, D), or None without a generator.
        validation: V validation images of the seen classes (V, 1, D); V may be 0.
        tower: the frozen text tower, for a method that `needs_text_tower`; else it may be None.
        rng: source of all randomness in `fit`; on the CPU, so that a seed draws the same numbers on every device.
        transfer: whether the unseen classes belong to another data set than the images.
    """

    train: LabelledFeatures
    classes: ClassSet
    synthetic: LabelledFeatures | None
    validation: LabelledFeatures
    tower: TextTower | None
    rng: torch.Generator
    transfer: bool = False

    @property
    def shots(self) -> int:
        """Return the training images per seen class, rounded down."""
        return len(self.train) // max(len(self.classes.seen_ids), 1)

    def without_centre_crop(self) -> FitData:
        """Return the same data with the augmented views of the training images alone, if there are any."""
        return replace(self, train=self.train.augmented())

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
    def with_patches(self) -> Tensor:
        """Return the features and patch tokens (N, 1 + P, D) of the training images, as a classifier scores them.

        Raises:
            InputError: there are no patch tokens.
        """
        if self.train.patches is None:
            raise InputError(
                "this method needs patch tokens (`needs_patches`), but the training features have none: "
                "extract them with `extract.patch_tokens: true`"
            )
        return self.train.scored


ViewFamily = str | None  # of the stored views: a key of `extract.view_families`; None: the first family


class Method(Settings):
    """Base of every method: its fields are the hyper-parameters, its data comes in `fit`.

    Class attributes:
        classifier: the class that `fit` returns, by which a saved classifier is read back.
        needs_text_tower: whether `fit` uses the text tower; the stage loads it only then.
        scores_with_text_tower: whether its classifier encodes prompts for each image and needs `with_text_tower`.
        needs_patches: whether it reads patch tokens, in `fit` and beside features when it scores.
        needs_shared_prefix: whether it needs a text tower whose prompts share the states of their beginning.
        takes_synthetic: whether `fit` can use labelled features of unseen classes, as in `coop+ship`.
        fitted_to_images: whether images influence the classifier, so that it may prefer the classes that have some.
    """

    classifier: ClassVar[type[Classifier]]
    needs_text_tower: ClassVar[bool] = False
    scores_with_text_tower: ClassVar[bool] = False
    needs_patches: ClassVar[bool] = False
    needs_shared_prefix: ClassVar[bool] = False
    takes_synthetic: ClassVar[bool] = True
    fitted_to_images: ClassVar[bool] = True

    @property
    def uses_text_tower(self) -> bool:
        """Return whether `fit` uses the text tower with these settings."""
        return self.needs_text_tower

    @property
    def family_of_views(self) -> str | None:
        """Return the family of stored views that it learns from; None: the first one, or it reads no views."""
        family: str | None = getattr(self, "view_family", None)
        return family

    @property
    def learned_vectors(self) -> int:
        """Return the learned vectors of a prompt, beside which class names must fit; 0 without learned prompts."""
        return int(getattr(self, "context", 0))

    @abstractmethod
    def fit(self, data: FitData) -> Classifier:
        """Fit on the real features of the seen classes, and on synthetic features of the unseen ones if there are any.

        Raises:
            InputError: training diverged, or `data` lacks the text tower or patch tokens that this method needs.
        """


def everything_scored(classes: ClassSet) -> Tensor:
    """Return (C,) True, for a classifier that needs only a class's name."""
    return torch.ones_like(classes.seen)


def scale_of(classes: ClassSet) -> Tensor:
    """Return CLIP's logit scale () on the device of the text features."""
    return torch.tensor(classes.logit_scale, device=classes.text_features.device)


def required_tower(tower: TextTower | None) -> TextTower:
    """Return the text tower of a classifier that scores with it.

    Raises:
        InputError: there is none.
    """
    if tower is None:
        raise InputError("this classifier scores with the text tower: call `with_text_tower` first")
    return tower
