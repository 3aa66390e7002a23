"""What methods and generators are fitted on: labelled features and named classes, on one device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from features.errors import raise_all
from features.text.tokenizer import text_lengths

ValidationFrom = Literal["val", "train", "test"]  # split of a data set that validation images come from
Average = Literal["micro", "per_class"]  # accuracy of an evaluation split: over images, or over classes (Xian et al.)


@dataclass(frozen=True)
class LabelledFeatures:
    """Image features of N images in K views, and their classes.

    Attributes:
        features: (N, K, D) float32, as the encoder returned them, not normalized; view 0 is the centre crop.
        labels: (N,) int64, positions in a `ClassSet`.
        patches: (N, P, D) float16, local features of the centre crops, not normalized; for a method that
            `needs_patches`.
    """

    features: Tensor
    labels: Tensor
    patches: Tensor | None = None

    @cached_property
    def unit(self) -> Tensor:
        """Return every view (N, K, D) normalized to unit length."""
        return F.normalize(self.features, dim=-1)

    @cached_property
    def centre(self) -> Tensor:
        """Return the unit features (N, D) of the centre crops."""
        return F.normalize(self.features[:, 0], dim=-1)

    @property
    def scored(self) -> Tensor:
        """Return what a classifier scores: unit features (N, D) of the centre crops.

        Where patch tokens were read, these are the features and patch tokens (N, 1 + P, D) instead, as they are stored.
        """
        if self.patches is None:
            return self.centre
        return torch.cat([self.features[:, :1].to(self.patches.dtype), self.patches], dim=1)

    @cached_property
    def host_labels(self) -> Tensor:
        """Return the labels (N,) on the host."""
        return self.labels.cpu()

    def __len__(self) -> int:
        return len(self.labels)

    def augmented(self) -> LabelledFeatures:
        """Return the augmented views without the centre crop; the centre crop if there is no other view."""
        return replace(self, features=self.features[:, 1:]) if self.features.shape[1] > 1 else self

    def to(self, device: torch.device) -> LabelledFeatures:
        """Return the same features on another device."""
        patches = None if self.patches is None else self.patches.to(device)
        return LabelledFeatures(self.features.to(device), self.labels.to(device), patches)


@dataclass(frozen=True)
class ClassSet:
    """The C classes of a task: seen ones have images, unseen ones only names.

    Attributes:
        names: C class names.
        seen: (C,) bool, true where there are training images.
        text_features: (C, D) float32 unit rows: the zero-shot weights from the data set's template(s).
        text_norms: (C,) float32: length of the text tower's output for each class (`ClassTexts.text_norms`).
        tokens: (C, T) int64: [SOS] name . [EOT], padded with zeros. They are on the host whatever the device of the
            rest (`features.text.text_tower` says why).
        logit_scale: factor of CLIP's cosines, exp(learned value): 100 for OpenAI's.
    """

    names: tuple[str, ...]
    seen: Tensor
    text_features: Tensor
    text_norms: Tensor
    tokens: Tensor
    logit_scale: float

    def __len__(self) -> int:
        return len(self.names)

    @property
    def unnormalized_text(self) -> Tensor:
        """Return the text features (C, D) at the length of the tower's output.

        The length decides how far a step of the optimizer turns a vector that starts there.
        """
        return self.text_features * self.text_norms[:, None]

    @property
    def seen_ids(self) -> Tensor:
        """Return the positions (S,) int64 of the seen classes."""
        return self.seen.nonzero().squeeze(1)

    @property
    def unseen_ids(self) -> Tensor:
        """Return the positions (U,) int64 of the unseen classes."""
        return (~self.seen).nonzero().squeeze(1)

    def tokens_of(self, ids: Tensor) -> Tensor:
        """Return the tokens (S, T) of the classes at ids (S,), on the host whatever the device of ids."""
        return self.tokens[ids.cpu()]

    def subset(self, ids: Tensor) -> ClassSet:
        """Return the classes at ids (S,), with tokens only as long as they need."""
        tokens = self.tokens_of(ids)
        longest = max(text_lengths(tokens).tolist(), default=0)
        return replace(
            self,
            names=tuple(self.names[i] for i in ids.tolist()),
            seen=self.seen[ids],
            text_features=self.text_features[ids],
            text_norms=self.text_norms[ids],
            tokens=tokens[:, :longest],
        )

    def followed_by(self, others: ClassSet) -> ClassSet:
        """Return these classes and then `others`, which must be of the same encoder."""
        longest = max(self.tokens.shape[1], others.tokens.shape[1])
        padded = [F.pad(part.tokens, (0, longest - part.tokens.shape[1])) for part in (self, others)]
        return replace(
            self,
            names=self.names + others.names,
            seen=torch.cat([self.seen, others.seen]),
            text_features=torch.cat([self.text_features, others.text_features]),
            text_norms=torch.cat([self.text_norms, others.text_norms]),
            tokens=torch.cat(padded),
        )

    def to(self, device: torch.device) -> ClassSet:
        """Return the same classes on another device."""
        return replace(
            self,
            seen=self.seen.to(device),
            text_features=self.text_features.to(device),
            text_norms=self.text_norms.to(device),
        )


def gather(table: Tensor, *indices: Tensor) -> Tensor:
    """Return `table[indices]` for indices (N,) on the host, without waiting for the table's device."""
    return table[tuple(index.to(table.device, non_blocking=True) for index in indices)]


def check_usable(classes: ClassSet, **parts: LabelledFeatures | None) -> None:
    """Check that a method can be fitted on features, given by the name of their part, such as `train`.

    Raises:
        InputError: features that are not finite or have another dimension than the text features, or labels that are
            not classes; names every part.
    """
    d = classes.text_features.shape[1]
    problems = []
    for name, images in parts.items():
        if images is None:
            continue
        if images.features.shape[-1] != d:
            problems.append(f"{name}: features have {images.features.shape[-1]} dimensions, but text features have {d}")

        finite = images.features.flatten(1).isfinite().all(1)
        if images.patches is not None:
            finite &= images.patches.flatten(1).isfinite().all(1)
        broken = int((~finite).sum())
        if broken:
            problems.append(f"{name}: {broken} of {len(images)} images have features that are NaN or infinite")

        outside = int(((images.labels < 0) | (images.labels >= len(classes))).sum())
        if outside:
            problems.append(f"{name}: {outside} of {len(images)} labels are not among the {len(classes)} classes")
    raise_all(problems, "features cannot be used for fitting: remove their store and run `dvc repro`")


def first_of_each_class(train: LabelledFeatures) -> Tensor:
    """Return the row (S,) int64 of the first image of each class, in the order of the classes."""
    labels = train.labels.tolist()
    return torch.tensor([labels.index(label) for label in sorted(set(labels))])
