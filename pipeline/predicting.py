"""Image files -> probabilities, by the encoder and the run that validation chose."""

from __future__ import annotations

import glob
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import pipeline.methods
from features.augment import Views, crops
from features.devices import Precision, cores, pick_device
from features.encoder import Encoder, load_encoder
from features.errors import InputError, nearest
from features.images import UnreadableImageError, read_image
from features.listed import EXTENSIONS
from features.lookup import find
from features.text_tower import load_tower
from pipeline.choice import Choice, read_choice
from pipeline.evaluation import open_classifier
from pipeline.methods.base import Classifier, Method
from pipeline.params import PATH, Params
from pipeline.paths import EncoderPaths
from pipeline.task_store import load_train

BATCH = (
    16  # images that a thread decodes and encodes at a time; more takes memory and gains nothing (features.extraction)
)
CENTRE = Views(count=0, scale=(0.5, 1.0), seed=0)  # the centre crop alone


@dataclass(frozen=True, eq=False)
class Model:
    """All that is needed to classify an image.

    Attributes:
        names: C class names. seen: (C,) whether each had training images.
        temperature: what logits are divided by before the softmax.
    """

    encoder: Encoder
    precision: Precision
    classifier: Classifier
    names: tuple[str, ...]
    seen: tuple[bool, ...]
    temperature: float
    choice: Choice

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.encoder.device

    def logits(self, found: Tensor) -> Tensor:
        """(N, C) logits, before the temperature, of (N, D) features as the encoder gave them."""
        ids = torch.arange(len(self.names), device=self.device)
        with torch.inference_mode():
            return self.classifier.logits(F.normalize(found, dim=-1), ids)

    def probabilities(self, pixels: Tensor) -> Tensor:
        """(N, C) on the CPU, of (N, height, width, 3) uint8 crops."""
        found = self.logits(self.encoder.encode_crops(pixels, self.precision))
        return F.softmax(found / self.temperature, dim=1).cpu()


def open_model(params: Params, name: str, device: str | None = None) -> Model:
    """The model that the task `name` of one's own chose, with the encoder of the grid.

    Raises:
        InputError: there is no such task, nothing is chosen for it yet, or the encoder is another by now.
    """
    if name not in params.tasks or name not in params.data.sets:
        known = sorted({*params.tasks} & {*params.data.sets})
        raise InputError(f"{name!r} is no task in {PATH}; {nearest(name, known)}; `shipyard task new` makes one")
    encoded = EncoderPaths(params.artifacts)
    cell, spec = encoded.cell(name, name), params.encoder
    choice, where = read_choice(cell.chosen), pick_device(device or params.compute.device)
    encoder = load_encoder(params.grid.encoder, spec.model, spec.pretrained, where)
    if encoder.weights_sha256 != choice.encoder.weights_sha256:
        raise InputError(
            f"{name} was trained on features of encoder {choice.encoder.name!r} with weights "
            f"{choice.encoder.weights_sha256[:12]}; those of {encoder.name!r} are {encoder.weights_sha256[:12]}: "
            f"run `shipyard run {name}`"
        )
    method = find(pipeline.methods, choice.method, Method)
    tower = load_tower(encoded.text_tower).to(where) if method.scores_with_text_tower else None
    classes = load_train(cell.validation_images).classes
    return Model(
        encoder=encoder,
        precision=params.extract.precision,
        classifier=open_classifier(
            method,
            cell.fitted(choice.run),
            choice.seed,
            weights_sha256=encoder.weights_sha256,
            tower=tower,
            device=where,
        ),
        names=classes.names,
        seen=tuple(classes.seen.tolist()),
        temperature=choice.temperature or 1.0,
        choice=choice,
    )


@dataclass(frozen=True)
class Prediction:
    """The K most probable classes of an image, best first; a file that cannot be read has a `problem` instead."""

    path: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    seen: tuple[bool, ...] = ()
    problem: str | None = None


def predict(
    model: Model, files: Iterable[str], top: int, advance: Callable[[int], None] = lambda _: None
) -> Iterator[Prediction]:
    """Classify files, in their order; `advance` is told how many more are done.

    Each of as many threads as there are cores decodes a few images and passes them through the encoder, so that memory
    does not grow with the number of files and no core waits for another.
    """
    lanes, before = cores(), torch.get_num_threads()
    waiting: deque[Future[list[Prediction]]] = deque()

    def finished() -> Iterator[Prediction]:
        done = waiting.popleft().result()
        advance(len(done))
        yield from done

    with ThreadPoolExecutor(lanes, "predict", initializer=lambda: torch.set_num_threads(1)) as pool:
        try:
            rest = iter(files)
            while batch := tuple(islice(rest, BATCH)):
                waiting.append(pool.submit(_classify, model, batch, top))
                if len(waiting) > 2 * lanes:
                    yield from finished()
            while waiting:
                yield from finished()
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(before)


def _classify(model: Model, files: Sequence[str], top: int) -> list[Prediction]:
    preprocess = model.encoder.preprocess
    pixels = np.empty((len(files), 1, *preprocess.size, 3), np.uint8)
    problems: dict[int, str] = {}
    for i, file in enumerate(files):
        try:
            crops(read_image(Path(file)), file, preprocess, CENTRE, pixels[i])
        except UnreadableImageError as error:
            problems[i] = str(error)
    good = [i for i in range(len(files)) if i not in problems]
    found = {i: Prediction(files[i], problem=problem) for i, problem in problems.items()}
    if good:
        best = model.probabilities(torch.from_numpy(pixels[good, 0])).topk(min(top, len(model.names)))
        for i, values, ids in zip(good, best.values.tolist(), best.indices.tolist(), strict=True):
            found[i] = Prediction(
                files[i],
                classes=tuple(model.names[j] for j in ids),
                probabilities=tuple(values),
                seen=tuple(model.seen[j] for j in ids),
            )
    return [found[i] for i in range(len(files))]


def expand(paths: Iterable[str], listed: Iterable[str]) -> list[str]:
    """Every file that is meant, each once: files, images below folders, matches of globs, `listed` lines for `-`.

    Files that are named outright are kept whatever they are, so that an unreadable one is told.
    """
    found: list[str] = []
    for path in paths:
        if path == "-":
            found += [line.rstrip("\r\n") for line in listed if line.strip()]
        elif os.path.isdir(path):  # noqa: PTH112 (strings as they were typed)
            inside = Path(path).rglob("*")
            found += sorted(str(file) for file in inside if file.suffix.lower() in EXTENSIONS and file.is_file())
        elif not os.path.exists(path) and glob.has_magic(path):  # noqa: PTH110
            found += sorted(glob.glob(path, recursive=True))  # noqa: PTH207
        else:
            found.append(path)
    return list(dict.fromkeys(found))
