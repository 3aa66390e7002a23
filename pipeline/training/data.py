"""What the stages hand to methods and generators: labelled features and named classes, on one device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from features.errors import raise_all

Average = Literal["micro", "per_class"]  # of a eval_split: over images, or over classes (Xian et al.)


@dataclass(frozen=True)
class LabelledFeatures:
    """Image features of N images in K views, and their classes.

    Attributes:
        features: (N, K, D) float32, as the encoder gave them, not normalised; view 0 is the centre crop.
        labels: (N,) int64, positions in a `ClassSet`.
        patches: (N, P, D) float16, local features of the centre crops, likewise; for a method that `needs_patches`.
    """

    features: Tensor
    labels: Tensor
    patches: Tensor | None = None

    @cached_property
    def unit(self) -> Tensor:
        """(N, K, D): every view on the unit sphere."""
        return F.normalize(self.features, dim=-1)

    @cached_property
    def centre(self) -> Tensor:
        """(N, D): the centre crop's feature, unit length."""
        return F.normalize(self.features[:, 0], dim=-1)

    @cached_property
    def host_labels(self) -> Tensor:
        """(N,): the labels on the host."""
        return self.labels.cpu()

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> LabelledFeatures:
        """The same features on another device."""
        patches = None if self.patches is None else self.patches.to(device)
        return LabelledFeatures(self.features.to(device), self.labels.to(device), patches)


@dataclass(frozen=True)
class ClassSet:
    """The C classes of a task: seen ones have images, unseen ones only names.

    Attributes:
        names: C class names.
        seen: (C,) bool, true where there are training images.
        text_features: (C, D) float32 unit rows: the zero-shot weights from the data set's template(s).
        tokens: (C, T) int64: [SOS] name . [EOS], then zeros up to the longest; on the host on whatever device the rest
            is (`features.text.text_tower` says why).
        logit_scale: what CLIP multiplies a cosine by, exp(learned value): 100 for OpenAI's.
    """

    names: tuple[str, ...]
    seen: Tensor
    text_features: Tensor
    tokens: Tensor
    logit_scale: float

    def __len__(self) -> int:
        return len(self.names)

    @property
    def seen_ids(self) -> Tensor:
        """(S,) int64: positions of the seen classes."""
        return self.seen.nonzero().squeeze(1)

    @property
    def unseen_ids(self) -> Tensor:
        """(U,) int64: positions of the unseen classes."""
        return (~self.seen).nonzero().squeeze(1)

    def tokens_of(self, ids: Tensor) -> Tensor:
        """(S, T) tokens of the classes at ids (S,), on the host wherever ids are."""
        return self.tokens[ids.cpu()]

    def subset(self, ids: Tensor) -> ClassSet:
        """The classes at ids (S,), with tokens only as long as their own."""
        tokens = self.tokens_of(ids)
        return replace(
            self,
            names=tuple(self.names[i] for i in ids.tolist()),
            seen=self.seen[ids],
            text_features=self.text_features[ids],
            tokens=tokens[:, : max(tokens.argmax(1).tolist(), default=-1) + 1],  # the EOT has the largest id
        )

    def followed_by(self, others: ClassSet) -> ClassSet:
        """These classes and then others of the same encoder."""
        both, longest = (self, others), max(self.tokens.shape[1], others.tokens.shape[1])
        return replace(
            self,
            names=self.names + others.names,
            seen=torch.cat([found.seen for found in both]),
            text_features=torch.cat([found.text_features for found in both]),
            tokens=torch.cat([F.pad(found.tokens, (0, longest - found.tokens.shape[1])) for found in both]),
        )

    def to(self, device: torch.device) -> ClassSet:
        """The same classes on another device."""
        return replace(self, seen=self.seen.to(device), text_features=self.text_features.to(device))


def gather(table: Tensor, *places: Tensor) -> Tensor:
    """`table[places]`, with places (N,) of the host sent to the table's device without waiting for what runs there."""
    return table[tuple(place.to(table.device, non_blocking=True) for place in places)]


def check_usable(classes: ClassSet, **given: LabelledFeatures | None) -> None:
    """Refuse features that no method can be fitted on; `given` by what they are to `fit`.

    Raises:
        InputError: features that are not finite, of another dimension than the text features, or of no class.
    """
    d, problems = classes.text_features.shape[1], []
    for name, found in given.items():
        if found is None:
            continue
        if found.features.shape[-1] != d:
            problems.append(f"{name}: features of {found.features.shape[-1]} dimensions, but text features of {d}")
        finite = found.features.flatten(1).isfinite().all(1)
        if found.patches is not None:
            finite &= found.patches.flatten(1).isfinite().all(1)
        broken = int((~finite).sum())
        if broken:
            problems.append(f"{name}: {broken} of {len(found)} images have features that are NaN or infinite")
        strange = int(((found.labels < 0) | (found.labels >= len(classes))).sum())
        if strange:
            problems.append(f"{name}: {strange} of {len(found)} labels are none of the {len(classes)} classes")
    raise_all(problems, "these features cannot be fitted on: remove their store and run `dvc repro`")


def first_of_each_class(train: LabelledFeatures) -> Tensor:
    """(S,) int64 rows: each class's first image, by class."""
    labels = train.labels.tolist()
    return torch.tensor([labels.index(label) for label in sorted(set(labels))])
