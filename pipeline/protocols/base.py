"""What a protocol decides: who is seen, who is only named, and what is judged against what."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from features.datasets.base import Split, heard
from features.errors import InputError
from features.settings import Settings
from pipeline.training.data import Average


@dataclass(frozen=True)
class ClassRef:
    """One class of one data set."""

    dataset: str
    class_id: int


@dataclass(frozen=True)
class ClassCounts:
    """What a protocol may know of a data set: its class names, and how many images a split has of each.

    Attributes:
        names: C class names.
        counts: split -> (C,) images of each class.
    """

    names: tuple[str, ...]
    counts: Mapping[str, NDArray[np.int64]]

    def refs(self, dataset: str) -> tuple[ClassRef, ...]:
        """Its classes, by class id."""
        return tuple(ClassRef(dataset, i) for i in range(len(self.names)))


@dataclass(frozen=True)
class EvalSplit:
    """Images of some classes, judged among some classes.

    Attributes:
        name: of its column, such as `base`.
        split: whose images are judged.
        judged: the classes whose images are judged.
        candidates: the classes that a prediction chooses from.
        average: over images (`micro`) or over classes (`per_class`, Xian et al.).
    """

    name: str
    split: Split
    judged: tuple[ClassRef, ...]
    candidates: tuple[ClassRef, ...]
    average: Average = "micro"


@dataclass(frozen=True)
class Plan:
    """A task on a data set, decided.

    Attributes:
        seen: classes with training images. unseen: classes with only names.
        eval_splits: at least one. harmonic: the two of them whose harmonic mean is reported, or None.
        same: a judged class of another data set -> the seen class that it is.
    """

    seen: tuple[ClassRef, ...]
    unseen: tuple[ClassRef, ...]
    eval_splits: tuple[EvalSplit, ...]
    harmonic: tuple[str, str] | None = None
    same: Mapping[ClassRef, ClassRef] = field(default_factory=dict)


class Protocol(Settings):
    """Base of every file in `pipeline/tasks/`: a protocol's settings, and the plan that they make of a data set.

    Class attribute:
        has_unseen: whether some class may be only named, so that a generator has something to synthesize.
    """

    has_unseen: ClassVar[bool] = True

    protocol: str
    shots: Annotated[int, Field(ge=1)] | None = None  # training images per seen class; null: all
    validation_shots: Annotated[int, Field(ge=1)] | None = None  # validation images per seen class; null: all
    draws: str = "seed"  # ours, by seed; or a folder in draws/ with CoOp's or the cross-modal authors' files

    def datasets(self, dataset: str) -> tuple[str, ...]:
        """Every data set that the task needs when it runs on `dataset`."""
        return (dataset,)

    def trained_on(self, dataset: str) -> str:
        """The data set whose images are learned from when the task runs on `dataset`."""
        return dataset

    @abstractmethod
    def plan(self, dataset: str, catalogs: Mapping[str, ClassCounts]) -> Plan:
        """Decide the task on `dataset`, given the catalogs of all that `datasets` names."""


class Transfer(Protocol):
    """A protocol that learns from all classes of one data set and is judged on another, its target: the grid's.

    Attributes:
        source: the data set to learn from. On itself the task is the papers' column "Source": every class seen, its own
            test images judged.
    """

    source: str

    def datasets(self, dataset: str) -> tuple[str, ...]:
        """The source and the target."""
        return tuple(dict.fromkeys((self.source, dataset)))

    def trained_on(self, dataset: str) -> str:  # noqa: ARG002
        """The source, whatever the target."""
        return self.source

    def plan(self, dataset: str, catalogs: Mapping[str, ClassCounts]) -> Plan:
        """Every class of the source is seen; all test images of the target are judged among the target's classes."""
        seen, target = catalogs[self.source].refs(self.source), catalogs[dataset].refs(dataset)
        if dataset == self.source:
            return Plan(seen=seen, unseen=(), eval_splits=(EvalSplit("source", "test", seen, seen),))
        same = same_classes(self.source, dataset, catalogs)
        unseen = tuple(ref for ref in target if ref not in same)
        return Plan(seen=seen, unseen=unseen, eval_splits=(EvalSplit("target", "test", target, target),), same=same)


def same_classes(source: str, target: str, catalogs: Mapping[str, ClassCounts]) -> dict[ClassRef, ClassRef]:
    """Classes of the target -> the class of the source that has the same name, for those that have one.

    Names are compared as CLIP hears them. Of a name that stands for two classes (ImageNet has two such) the first is
    the first, the second the second.
    """

    def by_name(dataset: str) -> dict[tuple[str, int], ClassRef]:
        found, met = {}, Counter[str]()
        for ref, name in zip(catalogs[dataset].refs(dataset), catalogs[dataset].names, strict=True):
            found[heard(name), met[heard(name)]] = ref
            met[heard(name)] += 1
        return found

    known = by_name(source)
    return {ref: known[key] for key, ref in by_name(target).items() if key in known}


def halves(dataset: str, catalog: ClassCounts) -> tuple[tuple[ClassRef, ...], tuple[ClassRef, ...]]:
    """The classes in two halves by label: base and new. Of an odd number base has one more, as in CoCoOp's code.

    Raises:
        InputError: the data set has fewer than two classes.
    """
    count = len(catalog.names)
    if count < 2:
        raise InputError(f"data set {dataset!r} has {count} class(es); a base and a new half need at least 2")
    refs = catalog.refs(dataset)
    return refs[: (count + 1) // 2], refs[(count + 1) // 2 :]
