"""Build the files of a task from a protocol's plan, the feature stores and the class texts.

The training files contain everything that fitting may use, and `test.h5` contains everything that is evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from features.datasets.base import Split
from features.errors import InputError, raise_all
from features.image_store.store import ImageStore
from features.index_table import Index, read_index
from features.text.classes import ClassTexts, load_classes
from pipeline.artifacts import paths
from pipeline.artifacts.paths import EncoderPaths, TaskPaths
from pipeline.artifacts.task import EvalRows, Header, Rows, save_test, save_train
from pipeline.protocols.base import ClassCounts, ClassRef, EvalSplit, Plan, Protocol
from pipeline.steps.draws import draw_file, read_draw
from pipeline.steps.sampling import draw
from pipeline.training.data import ClassSet


@dataclass(frozen=True)
class Source:
    """The image features and the class texts of one data set, both from the same encoder."""

    store: ImageStore
    texts: ClassTexts

    def class_counts(self) -> ClassCounts:
        """Return the class names and the number of readable images of each class, which is all that a protocol sees."""
        count = len(self.texts.names)
        counts: dict[str, NDArray[np.int64]] = {}
        for name in self.store.splits:
            split = self.store.labels(name)
            counts[name] = np.bincount(split.labels[split.valid], minlength=count)
        return ClassCounts(self.texts.names, counts)


def check_same_encoder(sources: Mapping[str, Source], weights_sha256: str) -> None:
    """Check that all features and texts come from the same weights; otherwise cosines between them mean nothing.

    Raises:
        InputError: some features or texts come from other weights. The error lists all of them.
    """
    digests = {f"features of {name}": source.store.meta.weights_sha256 for name, source in sources.items()}
    digests |= {f"class texts of {name}": source.texts.weights_sha256 for name, source in sources.items()}

    problems = [f"{what}: weights {sha[:12]}" for what, sha in digests.items() if sha != weights_sha256]
    raise_all(problems, f"the text tower in use has weights {weights_sha256[:12]}, and these differ; run `dvc repro`")


def class_set(plan: Plan, sources: Mapping[str, Source]) -> ClassSet:
    """Return the classes of the task: the seen ones, then the unseen ones, in the order of the plan.

    If a seen class of the source is also a class of the target, it gets the name and the prompts of the target.

    Raises:
        InputError: classes of two data sets have the same name.
    """
    target_of = {source_ref: target_ref for target_ref, source_ref in plan.same.items()}
    refs = [target_of.get(ref, ref) for ref in (*plan.seen, *plan.unseen)]

    names = tuple(sources[ref.dataset].texts.names[ref.class_id] for ref in refs)
    origins: dict[str, set[str]] = {}
    for ref, name in zip(refs, names, strict=True):
        origins.setdefault(name, set()).add(ref.dataset)
    duplicates = [f"{name!r}: in {' and '.join(sorted(sets))}" for name, sets in origins.items() if len(sets) > 1]
    raise_all(duplicates, "two classes of the task have the same name; rename one of each pair")

    # Data sets differ in the longest name, so pad the token ids (zeros) to the longest of all.
    token_rows = [sources[ref.dataset].texts.tokens[ref.class_id] for ref in refs]
    tokens = np.zeros((len(refs), max(map(len, token_rows))), np.int64)
    for padded, row in zip(tokens, token_rows, strict=True):
        padded[: len(row)] = row

    weights = {name: source.texts.zero_shot_weights() for name, source in sources.items()}
    norms = {name: source.texts.text_norms() for name, source in sources.items()}
    return ClassSet(
        names=names,
        seen=torch.arange(len(refs)) < len(plan.seen),
        text_features=torch.from_numpy(np.stack([weights[ref.dataset][ref.class_id] for ref in refs])),
        text_norms=torch.from_numpy(np.stack([norms[ref.dataset][ref.class_id] for ref in refs])),
        tokens=torch.from_numpy(tokens),
        logit_scale=next(iter(sources.values())).texts.logit_scale,
    )


def draw_seeds(
    plan: Plan, protocol: Protocol, source: Source, dataset: str, seeds: Sequence[int]
) -> dict[int, tuple[Rows, Rows]]:
    """Return the training and validation images of the seen classes for each seed.

    Args:
        plan: plan of the task.
        protocol: the protocol, with the number of shots and the kind of draw.
        source: features and texts of the data set of the training images. All seen classes belong to it.
        dataset: name of this data set.
        seeds: seeds of the grid.

    Raises:
        InputError: classes have too few images, or a draw file is of another data set.
    """
    names = {ref.class_id: source.texts.names[ref.class_id] for ref in plan.seen}
    positions = {class_id: i for i, class_id in enumerate(names)}
    train = source.store.labels("train").usable_labels
    validation = source.store.labels(protocol.validation_from).usable_labels
    drawn = {}
    for seed in seeds:
        if protocol.draws == "seed":
            train_rows = draw(train, names, protocol.shots, seed)
            validation_rows = draw_validation(protocol, validation, names, seed, train_rows)
        else:
            file = draw_file(protocol.draws, dataset, protocol.shots, seed)
            index = index_of(source.store, dataset)
            train_rows, validation_rows = read_draw(file, index, names, protocol.shots)

        drawn[seed] = (
            _take(source.store, "train", train_rows, positions),
            _take(source.store, protocol.validation_from, validation_rows, positions).centre_crops(),
        )

    return drawn


def draw_validation(
    protocol: Protocol,
    labels: NDArray[np.integer],
    names: Mapping[int, str],
    seed: int,
    train_rows: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the validation images of a seed as rows of the split `validation_from`; see `Protocol`.

    Every class needs training images, but a class without validation images is skipped.

    Args:
        protocol: the protocol.
        labels: (N,) class of each image of the split.
        names: class id -> name of the seen classes.
        seed: seed of the draw.
        train_rows: the training images of the seed, as rows of `train`; they are no validation images.

    Raises:
        InputError: a class has fewer images than `validation_shots`.
    """
    if protocol.validation_from == "train":
        labels = labels.copy()
        labels[train_rows] = -1

    present = {class_id: name for class_id, name in names.items() if (labels == class_id).any()}
    return draw(labels, present, protocol.validation_shots, seed)


def index_of(store: ImageStore, dataset: str) -> Index:
    """Return the index of a data set, and check that the rows of its feature store are in the same order.

    Raises:
        InputError: the features were computed from another index.
    """
    path = paths.index(dataset)
    index = read_index(path)
    labels = np.concatenate([store.labels(split).labels for split in store.splits])
    if not np.array_equal(labels, index.class_ids):
        raise InputError(f"the features of {dataset!r} were computed from another index than {path}: run `dvc repro`")

    return index


def eval_rows(plan: Plan, eval_split: EvalSplit, sources: Mapping[str, Source]) -> EvalRows:
    """Return all images of an evaluation split, with the positions of its candidates in the task's classes."""
    position = {ref: i for i, ref in enumerate([*plan.seen, *plan.unseen])}
    position |= {ref: position[seen] for ref, seen in plan.same.items()}

    parts = []
    for dataset in dict.fromkeys(ref.dataset for ref in eval_split.classes):
        store = sources[dataset].store
        labels = store.labels(eval_split.split).usable_labels
        positions = {ref.class_id: position[ref] for ref in eval_split.classes if ref.dataset == dataset}
        rows = np.flatnonzero(np.isin(labels, list(positions)))
        parts.append(_take(store, eval_split.split, rows, positions))

    # Patch tokens are optional: keep a field only if every data set has it.
    fields = [name for name in vars(parts[0]) if all(getattr(part, name) is not None for part in parts)]
    joined = Rows(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in fields})
    candidates = np.array([position[ref] for ref in eval_split.candidates], np.int64)
    return EvalRows(eval_split.name, eval_split.average, candidates, joined)


def unreadable(plan: Plan, sources: Mapping[str, Source], validation_from: Split = "val") -> dict[str, int]:
    """Return the number of images that are left out because they could not be read; see `Header.unreadable`."""
    splits: set[Split] = {"train", validation_from}
    counts = {"training": sum(_invalid(sources, split, plan.seen) for split in splits)}
    for eval_split in plan.eval_splits:
        counts[eval_split.name] = _invalid(sources, eval_split.split, eval_split.classes)

    return {name: count for name, count in counts.items() if count}


def _invalid(sources: Mapping[str, Source], name: Split, refs: Sequence[ClassRef]) -> int:
    """Return the number of invalid images of some classes in one split."""
    count = 0
    for dataset in {ref.dataset for ref in refs}:
        split = sources[dataset].store.labels(name)
        ids = [ref.class_id for ref in refs if ref.dataset == dataset]
        count += int(np.isin(split.labels[~split.valid], ids).sum())
    return count


def _take(store: ImageStore, name: Split, rows: NDArray[np.int64], positions: Mapping[int, int]) -> Rows:
    """Return some rows of a split; `positions` maps a class id to its position in the task's classes."""
    labels = np.array([positions[int(class_id)] for class_id in store.labels(name).labels[rows]], np.int64)
    return Rows(store.features(name, rows), labels, rows, store.patches(name, rows))


def open_sources(datasets: Sequence[str], encoded: EncoderPaths, *, verify: bool = False) -> dict[str, Source]:
    """Open the feature store and the class texts of each data set; `verify` checks the sha256 of every feature."""
    stores = {name: ImageStore.open(encoded.features(name), verify=verify) for name in datasets}
    return {name: Source(store, load_classes(encoded.classes(name))) for name, store in stores.items()}


def build_task(
    protocol: Protocol, *, dataset: str, task: str, sources: Mapping[str, Source], seeds: Sequence[int], cell: TaskPaths
) -> None:
    """Plan the task, draw the shots of every seed, and write the files of `cell`.

    Args:
        protocol: protocol with its settings.
        dataset: data set that the task runs on.
        task: name of the task.
        sources: features and texts of every data set that the protocol reads.
        seeds: seeds of the grid.
        cell: paths of the task's files.

    Raises:
        InputError: the sources come from different encoders, a class has too few images for the shots, or two classes
            have the same name.
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
        unreadable=unreadable(plan, sources, protocol.validation_from),
        reading=sources[trained_on].store.meta.reading.provenance(),
        validation_from=protocol.validation_from,
        view_families=tuple(sorted(sources[trained_on].store.meta.view_families)),
    )

    classes = class_set(plan, sources)
    seen = classes.subset(classes.seen_ids)
    save_train(cell.train, header, seen, {seed: train for seed, (train, _) in draws.items()})
    save_train(cell.validation, header, seen, {seed: images for seed, (_, images) in draws.items()})
    save_train(cell.unseen, header, classes.subset(classes.unseen_ids), {})
    save_test(cell.test, header, eval_splits, classes.names, classes.seen.tolist())
