"""Read back the contexts that a run learned, for `shipyard words`: a method's, or a generator's prompts for images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import pipeline.generators
import pipeline.methods
from features.datasets.base import SPLITS
from features.errors import InputError, nearest, raise_all
from features.formats.tensors import read_tensors
from features.image_store.store import ImageStore
from features.index_table import read_index
from features.lookup import find, names
from features.settings import parse
from features.text.text_tower import TextTower
from pipeline.artifacts import paths
from pipeline.artifacts.scores import grid_runs
from pipeline.artifacts.task import TrainTask, load_task
from pipeline.config.params import Params
from pipeline.generators._prompt_vae import PromptVae
from pipeline.generators.base import Generator
from pipeline.methods.base import Method
from pipeline.steps.nearest_words import contexts_of
from pipeline.steps.synthesize import load_generator
from pipeline.training.data import first_of_each_class

CPU = torch.device("cpu")


def prompt_methods() -> list[str]:
    """Return the names of the methods that learn prompts: their classifiers hold a `context`."""
    return [
        name
        for name in names(pipeline.methods)
        if "context" in (field.name for field in fields(find(pipeline.methods, name, Method).classifier))
    ]


def image_readers() -> list[str]:
    """Return the names of the generators that turn an image into a prompt."""
    return [name for name in names(pipeline.generators) if find(pipeline.generators, name, Generator).reads_images]


def check_fitted(params: Params, cell: paths.TaskPaths, run: str, seed: int) -> None:
    """Check that a run was fitted, before anything is loaded.

    Raises:
        InputError: it was not; the message has the command that fits it, if the grid or a data set's name has it.
    """
    generators = names(pipeline.generators)
    fitted = cell.generator(run) if run in generators else cell.fitted(run)
    if paths.weights(fitted, seed).is_file():
        return

    grid = params.grid
    runs = list(dict.fromkeys([*grid.generators, *(one.run for one in grid_runs(params))]))
    method, _, generator = run.partition("+")
    if run not in generators and (method not in names(pipeline.methods) or generator not in {"", *generators}):
        raise InputError(f"there is no run {run!r}; {nearest(run, [*prompt_methods(), *image_readers()])}")
    if cell.dataset not in params.data.sets:
        raise InputError(f"there is no data set {cell.dataset!r}; {nearest(cell.dataset, params.data.sets)}")
    if run not in runs:
        key = "generators" if run in generators else "synthetic_methods" if generator else "methods"
        fix = f"it is not in the grid ({', '.join(runs)}); add it to grid.{key} in params.yaml, then `shipyard run`"
    elif cell.dataset not in grid.datasets or cell.task not in grid.tasks:
        fix = f"run `shipyard run {cell.dataset}`"
    elif seed not in grid.seeds:
        fix = f"use one of the seeds of the grid, {', '.join(map(str, grid.seeds))}"
    else:
        fix = "run `shipyard run`"
    raise InputError(f"{run} is not fitted on {cell.dataset}, {cell.task}, seed {seed}: {fix}")


def learned_contexts(
    params: Params, cell: paths.TaskPaths, run: str, *, seed: int, images: Sequence[str], tower: TextTower
) -> tuple[list[str], Tensor]:
    """Return the owner of each context and the contexts (G, M, W).

    Args:
        params: the project's parameters.
        cell: files of the task.
        run: a method, such as coop or coop+ship, or a generator.
        seed: the seed of the fit to read.
        images: for a generator, paths of images in the index; without any, it reads the first training image of each
            seen class.
        tower: the text tower.

    Returns:
        For each context a class name, the path of an image, or "" for a context that all classes share; and the
        contexts.

    Raises:
        InputError: the run learned no prompts or is not fitted, or the images are not in the index.
    """
    task = load_task(cell)
    if run in names(pipeline.generators):
        return _of_generator(params, cell, task, run, seed=seed, images=images, tower=tower)

    if images:
        raise InputError(
            f"{run!r} learned one context for all images; remove --image, or give one of these generators: "
            f"{', '.join(image_readers())}"
        )
    state, _ = read_tensors(paths.weights(cell.fitted(run), seed))
    contexts = contexts_of(state)
    if contexts is None:
        raise InputError(
            f"{run!r} learned no prompts; methods that do: {', '.join(prompt_methods())}; "
            f"generators that do: {', '.join(image_readers())}"
        )
    # As many contexts as classes are one per class; any other number is shared by all classes.
    owners = task.classes.names if len(contexts) == len(task.classes) else [""] * len(contexts)
    return list(owners), contexts


def _of_generator(
    params: Params,
    cell: paths.TaskPaths,
    task: TrainTask,
    name: str,
    *,
    seed: int,
    images: Sequence[str],
    tower: TextTower,
) -> tuple[list[str], Tensor]:
    """Return the images, or the seen classes, and the prompts (G, L, W) that a generator reads in their images."""
    kind = find(pipeline.generators, name, Generator)
    if not kind.reads_images:
        raise InputError(f"{name!r} turns no image into a prompt; generators that do: {', '.join(image_readers())}")

    settings = parse(kind, *params.block("generators", name, task.header.trained_on))
    model = cast(PromptVae, load_generator(settings, cell.generator(name), seed, tower, CPU))  # as `reads_images` says

    if images:
        store = paths.EncoderPaths(cell.artifacts).features(task.header.trained_on)
        return list(images), model.contexts_of_images(_image_features(images, task.header.trained_on, store))

    train = task.seed(seed)
    rows = first_of_each_class(train)
    owners = [task.classes.names[label] for label in train.labels[rows].tolist()]
    return owners, model.contexts_of_images(train.centre[rows])


def _image_features(images: Sequence[str], dataset: str, folder: Path) -> Tensor:
    """Return the unit features (N, D) of images, given by their paths in the index, from any split.

    Raises:
        InputError: lists every path that is not in the index.
    """
    index = read_index(paths.index(dataset))
    store = ImageStore.open(folder)

    row_of = {path: row for row, path in enumerate(index.paths)}
    unknown = [repr(path) for path in images if path not in row_of]
    raise_all(
        unknown, f"--image: not in {paths.index(dataset)}; give paths as they stand there, such as {index.paths[0]!r}"
    )

    # The store has a group per split, whose rows are consecutive rows of the index.
    first_row = {split: int(index.rows(split)[0]) for split in SPLITS if len(index.rows(split))}
    features = []
    for path in images:
        row = row_of[path]
        split = index.splits[row]
        centre = store.features(split, np.array([row - first_row[split]]))[0, 0]  # view 0 is the centre crop
        features.append(torch.from_numpy(centre).float())
    return F.normalize(torch.stack(features), dim=-1)
