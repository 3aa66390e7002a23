"""Folds of the seen classes: in each, one half keeps its images and the other half plays unseen.

Classes that are known by name only have no validation images. Seen classes that play unseen have some, so a fit on a
fold shows how a method treats classes without images. Every seen class plays unseen in exactly one of the two folds.
Nothing here reads test images or the names of the task's unseen classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.training.data import ClassSet, LabelledFeatures

NAMES = ("fold1", "fold2")


@dataclass(frozen=True)
class Fold:
    """One fold of a task's S seen classes.

    Attributes:
        name: one of `NAMES`; part of the seed of what is drawn for the fold, and of file names.
        classes: the S classes, those that keep their images first.
        order: (S,) int64 on the host; `classes` are the task's classes at these positions.
    """

    name: str
    classes: ClassSet
    order: Tensor

    @property
    def position(self) -> Tensor:
        """Return the position (S,) in `classes` of each of the task's seen classes."""
        return torch.argsort(self.order)

    @property
    def seen(self) -> Tensor:
        """Return whether each of the task's seen classes keeps its images (S,), in the order of the task."""
        return self.classes.seen.cpu()[self.position]

    def images(self, images: LabelledFeatures) -> LabelledFeatures:
        """Return the images of the classes that keep them, with labels that are positions in `classes`."""
        rows = self.seen[images.host_labels].nonzero().squeeze(1).to(images.labels.device)
        patches = None if images.patches is None else images.patches[rows]
        labels = self.position.to(images.labels.device)[images.labels[rows]]
        return LabelledFeatures(images.features[rows], labels, patches)


def folds(seen_classes: ClassSet) -> Iterator[Fold]:
    """Yield the two folds of a task's seen classes; none if there is only one class.

    Every second class keeps its images, so that a fold has classes from all of a list that is sorted by kind.

    Args:
        seen_classes: the S seen classes of a task.
    """
    count = len(seen_classes)
    if count < 2:
        return

    for start, name in enumerate(NAMES):
        kept = torch.arange(start, count, 2)
        withheld = torch.arange(1 - start, count, 2)
        order = torch.cat([kept, withheld])
        classes = seen_classes.subset(order.to(seen_classes.seen.device))
        seen = torch.arange(count, device=classes.seen.device) < len(kept)
        yield Fold(name, replace(classes, seen=seen), order)
