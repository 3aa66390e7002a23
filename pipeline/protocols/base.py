"""The contract of a protocol: which classes are seen, which are unseen, and which predictions are evaluated."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from features.datasets.base import Split, canonical_name
from features.errors import InputError
from features.settings import Settings
from pipeline.training.data import Average, ValidationFrom


@dataclass(frozen=True)
class ClassRef:
    """One class of one data set."""

    dataset: str
    class_id: int


@dataclass(frozen=True)
class ClassCounts:
    """The class names of a data set and the number of images of each class. A protocol knows nothing else of the data.

    Attributes:
        names: C class names.
        counts: split -> (C,) number of images of each class.
    """

    names: tuple[str, ...]
    counts: Mapping[str, NDArray[np.int64]]

    def refs(self, dataset: str) -> tuple[ClassRef, ...]:
        """Return a reference to each class, in the order of the class ids."""
        return tuple(ClassRef(dataset, i) for i in range(len(self.names)))


@dataclass(frozen=True)
class EvalSplit:
    """Images of some classes, each classified among some candidate classes.

    Attributes:
        name: name of the column in the results, such as `base`.
        split: split of the data set that the images come from.
        classes: classes whose images are classified.
        candidates: classes that a prediction is selected from.
        average: average over images (`micro`) or over classes (`per_class`, Xian et al.).
    """

    name: str
    split: Split
    classes: tuple[ClassRef, ...]
    candidates: tuple[ClassRef, ...]
    average: Average = "micro"


@dataclass(frozen=True)
class Plan:
    """The classes and the evaluation splits of a task on one data set.

    Attributes:
        seen: classes with training images.
        unseen: classes known by name only.
        eval_splits: the evaluation splits; none if there is no test image, so that nothing can be evaluated.
        harmonic: names of the two evaluation splits whose harmonic mean is reported, or None.
        same: class of the target data set -> the seen class of the source data set that is the same class.
    """

    seen: tuple[ClassRef, ...]
    unseen: tuple[ClassRef, ...]
    eval_splits: tuple[EvalSplit, ...]
    harmonic: tuple[str, str] | None = None
    same: Mapping[ClassRef, ClassRef] = field(default_factory=dict)


class Protocol(Settings):
    """Base class of every protocol in `pipeline/protocols/`: its settings and the plan that it makes of a data set.

    Attributes:
        has_unseen: class attribute; whether a class may be unseen, so that a generator has something to synthesize.
        among_all: class attribute; whether images of seen and of unseen classes are classified among all classes, so
            that the two can be balanced (`grid.select`).
    """

    has_unseen: ClassVar[bool] = True
    among_all: ClassVar[bool] = False

    protocol: str
    shots: Annotated[int, Field(ge=1)] | None = None  # training images per seen class; null: all
    validation_shots: Annotated[int, Field(ge=1)] | None = None  # validation images per seen class; null: all
    # Split of the validation images. `train` takes images that are not among the shots, for a data set without a
    # validation split, such as ImageNet. `test` is what some authors' code does there; every table then says so.
    validation_from: ValidationFrom = "val"
    # seed: draw the shots by seed. Any other value: a folder in draws/ with the draw files of CoOp or of the
    # cross-modal adaptation authors.
    draws: str = "seed"

    @model_validator(mode="after")
    def _one_source_of_validation(self) -> Self:
        if self.draws != "seed" and self.validation_from != "val":
            raise ValueError(f"the files of draws {self.draws!r} name the validation images: leave out validation_from")
        return self

    def datasets(self, dataset: str) -> tuple[str, ...]:
        """Return every data set that the task reads when it runs on `dataset`."""
        return (dataset,)

    def trained_on(self, dataset: str) -> str:
        """Return the data set that provides the training images when the task runs on `dataset`."""
        return dataset

    @abstractmethod
    def plan(self, dataset: str, class_counts: Mapping[str, ClassCounts]) -> Plan:
        """Return the plan of the task on `dataset`.

        Args:
            dataset: data set that the task runs on.
            class_counts: class counts of every data set that `datasets` returns.
        """


class Transfer(Protocol):
    """Base class of protocols that train on all classes of a source data set and evaluate on a target data set.

    The target is the data set of the grid.

    Attributes:
        source: data set to train on. If the task runs on the source itself, it fills the papers' column "Source":
            every class is seen, and the source's own test images are evaluated.
    """

    source: str

    def datasets(self, dataset: str) -> tuple[str, ...]:
        """Return the source and the target, without duplicates."""
        return tuple(dict.fromkeys((self.source, dataset)))

    def trained_on(self, dataset: str) -> str:  # noqa: ARG002
        """Return the source, which does not depend on the target."""
        return self.source

    def plan(self, dataset: str, class_counts: Mapping[str, ClassCounts]) -> Plan:
        """Mark every class of the source as seen, and evaluate all test images of the target among its own classes."""
        seen = class_counts[self.source].refs(self.source)

        if dataset == self.source:
            return Plan(seen=seen, unseen=(), eval_splits=(EvalSplit("source", "test", seen, seen),))

        target = class_counts[dataset].refs(dataset)
        same = same_classes(self.source, dataset, class_counts)
        unseen = tuple(ref for ref in target if ref not in same)
        return Plan(seen=seen, unseen=unseen, eval_splits=(EvalSplit("target", "test", target, target),), same=same)


def same_classes(source: str, target: str, class_counts: Mapping[str, ClassCounts]) -> dict[ClassRef, ClassRef]:
    """Map each class of the target to the class of the source with the same name, if there is one.

    Names are compared in their canonical form. Two classes of one data set may share a name (ImageNet has two such
    names). They are then matched in order: the first with the first, the second with the second.
    """

    def by_name(dataset: str) -> dict[tuple[str, int], ClassRef]:
        refs: dict[tuple[str, int], ClassRef] = {}
        occurrences = Counter[str]()

        for ref, name in zip(class_counts[dataset].refs(dataset), class_counts[dataset].names, strict=True):
            canonical = canonical_name(name)
            refs[canonical, occurrences[canonical]] = ref
            occurrences[canonical] += 1

        return refs

    source_refs = by_name(source)
    return {ref: source_refs[key] for key, ref in by_name(target).items() if key in source_refs}


def halves(dataset: str, counts: ClassCounts) -> tuple[tuple[ClassRef, ...], tuple[ClassRef, ...]]:
    """Split the classes by label into a base half and a new half.

    If the number of classes is odd, the base half has one class more, as in CoCoOp's code.

    Raises:
        InputError: the data set has fewer than two classes.
    """
    count = len(counts.names)
    if count < 2:
        raise InputError(f"data set {dataset!r} has {count} class(es); a base and a new half need at least 2")

    refs = counts.refs(dataset)
    middle = (count + 1) // 2
    return refs[:middle], refs[middle:]
