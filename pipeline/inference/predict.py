"""Image files -> probabilities, by the encoder and the run that was chosen, or named."""

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
from features.encoding.augment import Views, fill_crops
from features.encoding.encoder import Encoder, load_encoder
from features.encoding.images import UnreadableImageError, read_image
from features.errors import InputError, nearest
from features.extraction.patch_tokens import encode_with_patches
from features.lookup import find
from features.runtime.devices import Precision, cores, pick_device
from features.splits.listed import EXTENSIONS
from features.text.text_tower import load_tower
from pipeline.artifacts.paths import EncoderPaths, TaskPaths, method_of, weights
from pipeline.artifacts.selection import read_selection
from pipeline.artifacts.task import load_task
from pipeline.config.params import PATH, Params
from pipeline.methods.base import Classifier, Method
from pipeline.steps.evaluate import open_classifier

BATCH = 16  # images that a thread decodes and encodes at a time; more takes memory and gains nothing
CENTRE = Views(count=0, scale=(0.5, 1.0), seed=0)  # the centre crop alone


@dataclass(frozen=True, eq=False)
class Model:
    """All that is needed to classify an image.

    Attributes:
        task, run, seed: whose classifier it is.
        reads_patches: whether that scores patch tokens in the place of features.
        names: C class names. seen: (C,) whether each had training images.
        temperature: what logits are divided by before the softmax; None: not calibrated, they are left as they are.
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

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.encoder.device

    def logits(self, pixels: Tensor) -> Tensor:
        """(N, C) logits, divided by the temperature, of (N, height, width, 3) uint8 crops."""
        if self.reads_patches:
            found = encode_with_patches(self.encoder, pixels, self.precision)[1]
        else:
            found = F.normalize(self.encoder.encode_crops(pixels, self.precision), dim=-1)
        ids = torch.arange(len(self.names), device=self.device)
        with torch.inference_mode():
            return self.classifier.logits(found, ids) / (self.temperature or 1.0)

    def probabilities(self, pixels: Tensor) -> Tensor:
        """(N, C) on the CPU: the softmax of `logits`."""
        return F.softmax(self.logits(pixels), dim=1).cpu()


def open_model(
    params: Params, name: str, *, run: str | None = None, seed: int | None = None, device: str | None = None
) -> Model:
    """The classifier of the task `name` of one's own, with the encoder of the grid.

    Args:
        params: the project's.
        name: of the task and its data set.
        run: such as `coop+ship`; None: the one that `select` chose.
        seed: None: the one that `select` names, or the first of the grid.
        device: None: that of `compute`.

    Raises:
        InputError: there is no such task or run, none is named or chosen, or the encoder is another by now.
    """
    if name not in params.tasks or name not in params.data.sets:
        known = sorted({*params.tasks} & {*params.data.sets})
        raise InputError(f"{name!r} is no task in {PATH}; {nearest(name, known)}; `shipyard task new` makes one")
    encoded = EncoderPaths(params.artifacts)
    cell, spec = encoded.cell(name, name), params.encoder
    run, seed, temperature = _picked(params, cell, run, seed)
    method, task = find(pipeline.methods, method_of(run), Method), load_task(cell)
    where = pick_device(device or params.compute.device)
    encoder = load_encoder(params.grid.encoder, spec.model, spec.pretrained, where)
    if encoder.weights_sha256 != task.header.weights_sha256:
        raise InputError(
            f"{name} was trained on features of encoder {task.header.encoder!r} with weights "
            f"{task.header.weights_sha256[:12]}; those of {encoder.name!r} are {encoder.weights_sha256[:12]}: "
            f"run `shipyard run {name}`"
        )
    tower = load_tower(encoded.text_tower).to(where) if method.scores_with_text_tower else None
    sha = encoder.weights_sha256
    return Model(
        task=name,
        run=run,
        seed=seed,
        encoder=encoder,
        precision=params.extract.precision,
        classifier=open_classifier(method, cell.fitted(run), seed, weights_sha256=sha, tower=tower, device=where),
        reads_patches=method.needs_patches,
        names=task.classes.names,
        seen=tuple(task.classes.seen.tolist()),
        temperature=temperature,
    )


def _picked(params: Params, cell: TaskPaths, run: str | None, seed: int | None) -> tuple[str, int, float | None]:
    """The run, its seed and, where a rehearsal calibrated it, its temperature."""
    choice = read_selection(cell.selection) if cell.selection.is_file() else None
    if run is None:
        if choice is None:
            raise InputError(
                f"nothing is chosen for {cell.task!r}, for there is no {cell.selection}: `shipyard run {cell.task}` makes "
                f"it, or name a run with --run, such as --run {params.grid.methods[0]}"
            )
        run = choice.run
    seed = seed if seed is not None else choice.seed if choice else params.grid.seeds[0]
    if not weights(cell.fitted(run), seed).is_file():
        runs = [folder.name for folder in cell.fitted("").glob("*")]
        seeds = [file.stem.removeprefix("seed=") for file in cell.fitted(run).glob("seed=*")]
        lacks = (
            f"seed {seed} of {run!r}; {nearest(str(seed), seeds)}" if seeds else f"run {run!r}; {nearest(run, runs)}"
        )
        raise InputError(f"{cell.task} has no {lacks}")
    rehearsed = choice.of(run) if choice else None
    return run, seed, rehearsed.temperature if rehearsed else None


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
            fill_crops(read_image(Path(file)), file, preprocess, CENTRE, pixels[i])
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
