"""Classify images with the encoder and the selected run, or a run given by name."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import pipeline.methods
from features.datasets.base import canonical_name, reader_from
from features.encoding.augment import Views, fill_crops
from features.encoding.encoder import Encoder, load_encoder
from features.encoding.images import Reading, UnreadableImageError, read_image
from features.errors import InputError, Problems, nearest
from features.extraction.patch_tokens import encode_with_patches
from features.lookup import find
from features.runtime.cores import cores
from features.runtime.devices import Precision, pick_device
from features.splits.own_images import OwnImages, nfc
from features.text.tower_file import load_tower
from pipeline.artifacts.paths import EncoderPaths, TaskPaths, method_of, weights
from pipeline.artifacts.selection import Candidate, read_selection
from pipeline.artifacts.task import load_task
from pipeline.config.migrations import check_artifact_folder
from pipeline.config.params import PATH, Params
from pipeline.inference.lineage import one_lineage, run_named_in_errors
from pipeline.methods.base import Classifier, Method
from pipeline.steps.evaluate import open_classifier

BATCH = 16  # images that a thread decodes and encodes at a time; more would take memory and not be faster
CENTRE = Views(count=0, scale=(0.5, 1.0), seed=0)  # the centre crop only


@dataclass(frozen=True, eq=False)
class Model:
    """An encoder and a fitted classifier, ready to classify images.

    Attributes:
        task: name of the task and of its data set.
        run: name of the run, such as `coop+ship`.
        seed: seed of the run.
        encoder: the encoder, with its preprocessing.
        precision: precision of the encoder.
        classifier: the fitted classifier of the run.
        reads_patches: whether the classifier scores patch tokens beside features.
        names: C class names.
        seen: C flags; whether each class had training images.
        temperature: divisor of the logits before the softmax; None: the run is not calibrated, and 1 is used.
        reading: how the pixels of images are read: upright, and deep ones by the levels of the task's own images.
        offset: number that is subtracted from the logits of seen classes, before the temperature.
    """

    task: str
    run: str
    seed: int
    encoder: Encoder
    precision: Precision
    classifier: Classifier
    reads_patches: bool
    names: tuple[str, ...]
    seen: tuple[bool, ...]
    temperature: float | None
    reading: Reading
    offset: float = 0.0

    @property
    def device(self) -> torch.device:
        """Device of the encoder and the classifier."""
        return self.encoder.device

    @property
    def offsets(self) -> Tensor:
        """Return the offset of each class (C,) float32: that of the run for seen classes, 0 for unseen ones."""
        return self.offset * torch.tensor(self.seen, dtype=torch.float32, device=self.device)

    def logits(self, pixels: Tensor) -> Tensor:
        """Return (N, C) logits of (N, height, width, 3) uint8 crops, after the offset and the temperature."""
        return self._encode(pixels)[1]

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Return the softmax (N, C) of the logits, on the CPU."""
        return F.softmax(self.logits(pixels), dim=1).cpu()

    def classify(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unit features (N, D) of (N, height, width, 3) uint8 crops and `probabilities`, on the CPU."""
        features, logits = self._encode(pixels)
        return features.cpu(), F.softmax(logits, dim=1).cpu()

    def _encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unit features and the logits of crops."""
        if self.reads_patches:
            features, patches = encode_with_patches(self.encoder, pixels, self.precision)
            inputs = torch.cat([features[:, None], patches], dim=1)
        else:
            features = self.encoder.encode_crops(pixels, self.precision)
            inputs = F.normalize(features, dim=-1)

        ids = torch.arange(len(self.names), device=self.device)
        with torch.inference_mode():
            logits = (self.classifier.logits(inputs, ids) - self.offsets) / (self.temperature or 1.0)
            return F.normalize(features, dim=-1), logits


def open_model(
    params: Params,
    name: str,
    *,
    run: str | None = None,
    seed: int | None = None,
    device: str | None = None,
    max_pixels: int | None = None,
) -> Model:
    """Load the classifier of a user's own task, with the encoder of the grid.

    Args:
        params: parameters of the project.
        name: name of the task and of its data set.
        run: name of a run, such as `coop+ship`; None: the run that `select` selected.
        seed: seed of the run; None: the seed that `select` wrote, or the first of the grid.
        device: device to compute on; None: that of `compute`.
        max_pixels: the size, width times height, up to which an image is read; None: that of the task's data set.

    Raises:
        InputError: the task or the run does not exist, no run is selected, the encoder's weights have changed, or the
            files were not made from one another, as in the middle of a `shipyard run`, which is named.
    """
    with run_named_in_errors():
        model = _open_model(params, name, run, seed, device)
    if max_pixels is None:
        return model
    return replace(model, reading=replace(model.reading, max_pixels=max_pixels))


def _open_model(params: Params, name: str, run: str | None, seed: int | None, device: str | None) -> Model:
    if name not in params.tasks or name not in params.data.sets:
        known = sorted({*params.tasks} & {*params.data.sets})
        raise InputError(f"{name!r} is not a task in {PATH}; {nearest(name, known)}; `shipyard task new` creates one")

    cell = EncoderPaths(params.artifacts).cell(name, name)
    run, seed, candidate = _select_run(params, cell, run, seed)
    with one_lineage(cell, run):
        torch_device = pick_device(device or params.compute.device)
        return _load(params, cell, run, seed, candidate=candidate, torch_device=torch_device)


def _load(
    params: Params, cell: TaskPaths, run: str, seed: int, *, candidate: Candidate | None, torch_device: torch.device
) -> Model:
    """Load the encoder and the classifier of a run that is selected."""
    encoded, name = EncoderPaths(params.artifacts), cell.task
    method = find(pipeline.methods, method_of(run), Method)
    task = load_task(cell)

    spec = params.encoder
    encoder = load_encoder(params.grid.encoder, spec, torch_device)
    if encoder.weights_sha256 != task.header.weights_sha256:
        raise InputError(
            f"{name} was trained on features of encoder {task.header.encoder!r} with weights "
            f"{task.header.weights_sha256[:12]}; the weights of {encoder.name!r} are {encoder.weights_sha256[:12]}: "
            f"run `shipyard run {name}`"
        )

    tower = load_tower(encoded.text_tower).to(torch_device) if method.scores_with_text_tower else None
    sha = encoder.weights_sha256
    classifier = open_classifier(method, cell.fitted(run), seed, weights_sha256=sha, tower=tower, device=torch_device)
    return Model(
        task=name,
        run=run,
        seed=seed,
        encoder=encoder,
        precision=params.extract.precision,
        classifier=classifier,
        reads_patches=method.needs_patches,
        names=task.classes.names,
        seen=tuple(task.classes.seen.tolist()),
        temperature=candidate.temperature if candidate else None,
        offset=candidate.offsets[seed] if candidate and candidate.offsets else 0.0,
        reading=replace(Reading.from_provenance(task.header.reading), upright=True),
    )


def _select_run(
    params: Params, cell: TaskPaths, run: str | None, seed: int | None
) -> tuple[str, int, Candidate | None]:
    """Return the run, its seed, and what `select` wrote about it, if anything."""
    selection = read_selection(cell.selection) if cell.selection.is_file() else None

    if run is None:
        if selection is None:
            check_artifact_folder(cell.selection, f"shipyard run {cell.task}")
            raise InputError(
                f"no run is selected for {cell.task!r}: {cell.selection} does not exist; `shipyard run {cell.task}` "
                f"creates it, or name a run with --run, such as --run {params.grid.methods[0]}"
            )
        run = selection.run

    if seed is None:
        seed = selection.seed if selection else params.grid.seeds[0]

    if not weights(cell.fitted(run), seed).is_file():
        runs = [folder.name for folder in cell.fitted("").glob("*")]
        seeds = [file.stem.removeprefix("seed=") for file in cell.fitted(run).glob("seed=*")]
        missing = (
            f"seed {seed} of {run!r}; {nearest(str(seed), seeds)}" if seeds else f"run {run!r}; {nearest(run, runs)}"
        )
        raise InputError(f"{cell.task} has no {missing}; `shipyard run {cell.task}` fits what the grid names")

    candidate = selection.candidate(run) if selection else None
    if candidate and candidate.offsets and seed not in candidate.offsets:
        raise InputError(
            f"{cell.selection} has no offset for seed {seed} of {run!r}, only for seeds "
            f"{', '.join(map(str, candidate.offsets))}: run `shipyard run {cell.task}`, or choose one of these seeds"
        )
    return run, seed, candidate


def names_added_since(params: Params, model: Model) -> list[str]:
    """Return the names that a user gave to unseen classes or labels, and that the model does not know."""
    reader = reader_from(params.data.sets[model.task], f"{PATH}: data.sets.{model.task}")
    if not isinstance(reader, OwnImages):
        return []
    names = Problems().attempt(reader.unseen_names) or []  # a file that is gone is not needed here
    names = [*names, *map(nfc, reader.rename.values())]
    known = {canonical_name(name) for name in model.names}
    return [name for name in names if canonical_name(name) not in known]


@dataclass(frozen=True)
class Prediction:
    """The K most probable classes of an image, best first. A file that cannot be read has a `problem` instead."""

    path: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    seen: tuple[bool, ...] = ()
    problem: str | None = None


def read_file(path: str, reading: Reading) -> Image.Image:
    """Return the pixels of an image file."""
    return read_image(Path(path), reading)


def predict(
    model: Model,
    paths: Iterable[str],
    top: int,
    advance: Callable[[int], None] = lambda _: None,
    read: Callable[[str, Reading], Image.Image] = read_file,
) -> Iterator[Prediction]:
    """Classify images and yield their predictions in order.

    There is one thread per core. Each thread decodes a few images and passes them through the encoder. So memory does
    not grow with the number of files, and no core waits for another.

    Args:
        model: encoder and classifier.
        paths: paths of images.
        top: number of classes per image.
        advance: called with the number of images that have been classified since the last call.
        read: returns the pixels of the image with a path; threads call it.
    """
    workers = cores()
    threads_before = torch.get_num_threads()
    pending: deque[Future[list[Prediction]]] = deque()

    def finished() -> Iterator[Prediction]:
        batch_predictions = pending.popleft().result()
        advance(len(batch_predictions))
        yield from batch_predictions

    # Each worker computes with one thread: the workers together use all cores.
    with ThreadPoolExecutor(workers, "predict", initializer=lambda: torch.set_num_threads(1)) as pool:
        try:
            remaining = iter(paths)
            while batch := tuple(islice(remaining, BATCH)):
                pending.append(pool.submit(_classify, model, batch, top, read))

                # Bound the queue, so that results are consumed as fast as they are produced.
                if len(pending) > 2 * workers:
                    yield from finished()

            while pending:
                yield from finished()
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads_before)


def _classify(
    model: Model, files: Sequence[str], top: int, read: Callable[[str, Reading], Image.Image]
) -> list[Prediction]:
    """Classify one batch of images; unreadable ones get a problem."""
    preprocess = model.encoder.preprocess
    pixels = np.empty((len(files), 1, *preprocess.size, 3), np.uint8)

    problems: dict[int, str] = {}
    for i, file in enumerate(files):
        try:
            fill_crops(read(file, model.reading), file, preprocess, CENTRE, pixels[i])
        except UnreadableImageError as error:
            problems[i] = str(error)

    predictions = {i: Prediction(files[i], problem=problem) for i, problem in problems.items()}
    readable = [i for i in range(len(files)) if i not in problems]
    if readable:
        probabilities = model.probabilities(torch.from_numpy(pixels[readable, 0]))
        best = probabilities.topk(min(top, len(model.names)))
        for i, values, ids in zip(readable, best.values.tolist(), best.indices.tolist(), strict=True):
            predictions[i] = Prediction(
                files[i],
                classes=tuple(model.names[j] for j in ids),
                probabilities=tuple(values),
                seen=tuple(model.seen[j] for j in ids),
            )

    return [predictions[i] for i in range(len(files))]
