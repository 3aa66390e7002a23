"""A plan, the feature stores and the class texts become a task: what is fitted on, and what is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from features.datasets.base import Split
from features.errors import InputError, raise_all
from features.image_store.store import ImageStore
from features.index import Index, read_index
from features.text.classes import ClassTexts, load_classes
from pipeline.artifacts.paths import EncoderPaths, TaskPaths, index
from pipeline.artifacts.task import EvalRows, Header, Rows, save_test, save_train
from pipeline.protocols.base import ClassCounts, ClassRef, EvalSplit, Plan, Protocol
from pipeline.steps.draws import draw_file, listed
from pipeline.steps.sampling import draw
from pipeline.training.data import ClassSet


@dataclass(frozen=True)
class Source:
    """One data set, as one encoder reads it."""

    store: ImageStore
    texts: ClassTexts

    def class_counts(self) -> ClassCounts:
        """What protocols may know of it."""
        count = len(self.texts.names)
        splits = {split: self.store.load(split) for split in self.store.splits}
        labels: dict[str, NDArray[np.int32]] = {name: split.labels[split.valid] for name, split in splits.items()}
        counts = {name: np.bincount(ids, minlength=count) for name, ids in labels.items()}
        return ClassCounts(self.texts.names, counts)


def check_same_encoder(sources: Mapping[str, Source], weights_sha256: str) -> None:
    """Images and names must have been read by the same weights, or cosines between them mean nothing.

    Raises:
        InputError: lists every store that another encoder made.
    """
    found = {f"features of {name}": source.store.meta.weights_sha256 for name, source in sources.items()}
    found |= {f"class texts of {name}": source.texts.weights_sha256 for name, source in sources.items()}
    problems = [f"{what}: made with weights {sha[:12]}" for what, sha in found.items() if sha != weights_sha256]
    raise_all(problems, f"the text tower in use has weights {weights_sha256[:12]}; rerun the stages that made these")


def class_set(plan: Plan, sources: Mapping[str, Source]) -> ClassSet:
    """The task's classes: seen ones first, in the plan's order.

    A seen class that another data set judges has that one's name and prompts.

    Raises:
        InputError: classes of two data sets have the same name.
    """
    judged = {seen: ref for ref, seen in plan.same.items()}
    refs = [judged.get(ref, ref) for ref in (*plan.seen, *plan.unseen)]
    names = tuple(sources[ref.dataset].texts.names[ref.class_id] for ref in refs)
    origins: dict[str, set[str]] = {}
    for ref, name in zip(refs, names, strict=True):
        origins.setdefault(name, set()).add(ref.dataset)
    twice = [f"{name!r}: in {' and '.join(sorted(found))}" for name, found in origins.items() if len(found) > 1]
    raise_all(twice, "names stand for two classes of the task; only one can be told from both")
    weights = {name: source.texts.zero_shot_weights() for name, source in sources.items()}
    found = [sources[ref.dataset].texts.tokens[ref.class_id] for ref in refs]
    tokens = np.zeros((len(refs), max(map(len, found))), np.int64)
    for row, name in zip(tokens, found, strict=True):
        row[: len(name)] = name
    return ClassSet(
        names=names,
        seen=torch.arange(len(refs)) < len(plan.seen),
        text_features=torch.from_numpy(np.stack([weights[ref.dataset][ref.class_id] for ref in refs])),
        tokens=torch.from_numpy(tokens),
        logit_scale=next(iter(sources.values())).texts.logit_scale,
    )


def draw_seeds(
    plan: Plan, protocol: Protocol, source: Source, dataset: str, seeds: Sequence[int]
) -> dict[int, tuple[Rows, Rows]]:
    """Each seed's training and validation rows of the seen classes, which are all of `source`, the data set `dataset`.

    Raises:
        InputError: classes with too few images, or a draw of others that is not of this data set.
    """
    names = {ref.class_id: source.texts.names[ref.class_id] for ref in plan.seen}
    positions = {class_id: i for i, class_id in enumerate(names)}
    train, validation = source.store.load("train").usable_labels, source.store.load("val").usable_labels
    present = {c: name for c, name in names.items() if (validation == c).any()}
    drawn = {}
    for seed in seeds:
        if protocol.draws == "seed":
            rows = draw(train, names, protocol.shots, seed), draw(validation, present, protocol.validation_shots, seed)
        else:
            file = draw_file(protocol.draws, dataset, protocol.shots, seed)
            rows = listed(file, indexed(source.store, dataset), names, protocol.shots)
        drawn[seed] = (_take(source.store, "train", rows[0], positions), _take(source.store, "val", rows[1], positions))
    return drawn


def indexed(store: ImageStore, dataset: str) -> Index:
    """The index that the rows of a feature store are in the order of.

    Raises:
        InputError: the features are of another index.
    """
    found = read_index(index(dataset))
    labels = np.concatenate([store.load(split).labels for split in store.splits])
    if not np.array_equal(labels, found.class_ids):
        raise InputError(f"the features of {dataset!r} are of another index than {index(dataset)}: run `dvc repro`")
    return found


def eval_rows(plan: Plan, eval_split: EvalSplit, sources: Mapping[str, Source]) -> EvalRows:
    """A eval_split's images, all of its classes' in the split, and the positions of its candidates."""
    position = {ref: i for i, ref in enumerate([*plan.seen, *plan.unseen])}
    position |= {ref: position[seen] for ref, seen in plan.same.items()}
    taken = []
    for dataset in dict.fromkeys(ref.dataset for ref in eval_split.classes):
        store = sources[dataset].store
        labels = store.load(eval_split.split).usable_labels
        positions = {ref.class_id: position[ref] for ref in eval_split.classes if ref.dataset == dataset}
        taken.append(_take(store, eval_split.split, np.flatnonzero(np.isin(labels, list(positions))), positions))
    whole = [name for name in vars(taken[0]) if all(getattr(part, name) is not None for part in taken)]
    rows = Rows(**{name: np.concatenate([getattr(part, name) for part in taken]) for name in whole})
    candidates = np.array([position[ref] for ref in eval_split.candidates], np.int64)
    return EvalRows(eval_split.name, eval_split.average, candidates, rows)


def unreadable(plan: Plan, sources: Mapping[str, Source]) -> dict[str, int]:
    """How many images the task lacks because they could not be read; see `Header.unreadable`."""
    counts = {"training": _invalid(sources, "train", plan.seen) + _invalid(sources, "val", plan.seen)}
    counts |= {j.name: _invalid(sources, j.split, j.classes) for j in plan.eval_splits}
    return {name: count for name, count in counts.items() if count}


def _invalid(sources: Mapping[str, Source], name: Split, refs: Sequence[ClassRef]) -> int:
    count = 0
    for dataset in {ref.dataset for ref in refs}:
        split = sources[dataset].store.load(name)
        ids = [ref.class_id for ref in refs if ref.dataset == dataset]
        count += int(np.isin(split.labels[~split.valid], ids).sum())
    return count


def _take(store: ImageStore, name: Split, rows: NDArray[np.int64], positions: Mapping[int, int]) -> Rows:
    split = store.load(name)
    labels = [positions[int(c)] for c in split.labels[rows]]
    return Rows(split.features[rows], np.array(labels, np.int64), rows, store.patches(name, rows))


def open_sources(datasets: Sequence[str], encoded: EncoderPaths, *, verify: bool = False) -> dict[str, Source]:
    """The feature store and the class texts of each data set; `verify` reads and checks every byte of the former."""
    stores = {d: ImageStore.open(encoded.features(d), verify=verify) for d in datasets}
    return {d: Source(store, load_classes(encoded.classes(d))) for d, store in stores.items()}


def build_task(
    protocol: Protocol, *, dataset: str, task: str, sources: Mapping[str, Source], seeds: Sequence[int], cell: TaskPaths
) -> None:
    """Decide the task, draw every seed's shots, and write the files of `cell`.

    Raises:
        InputError: stores of different encoders, too few images for the shots, or names that stand twice.
    """
    texts = sources[dataset].texts
    check_same_encoder(sources, texts.weights_sha256)
    plan = protocol.plan(dataset, {name: source.class_counts() for name, source in sources.items()})
    trained_on = protocol.trained_on(dataset)
    draws = draw_seeds(plan, protocol, sources[trained_on], trained_on, seeds)
    eval_splits = [eval_rows(plan, eval_split, sources) for eval_split in plan.eval_splits]
    header = Header(
        dataset=dataset,
        trained_on=trained_on,
        task=task,
        protocol=protocol.protocol,
        shots=protocol.shots,
        harmonic=plan.harmonic,
        encoder=texts.encoder,
        weights_sha256=texts.weights_sha256,
        missing={name: source.texts.missing for name, source in sources.items() if source.texts.missing},
        unreadable=unreadable(plan, sources),
    )
    classes = class_set(plan, sources)
    seen = classes.subset(classes.seen_ids)
    save_train(cell.train, header, seen, {seed: train for seed, (train, _) in draws.items()})
    save_train(cell.validation, header, seen, {seed: images for seed, (_, images) in draws.items()})
    save_train(cell.unseen, header, classes.subset(classes.unseen_ids), {})
    save_test(cell.test, header, eval_splits, classes.names)
