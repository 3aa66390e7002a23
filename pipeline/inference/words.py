"""The contexts that a fitted run learned, for `shipyard words`: a method's own, or a generator's for chosen images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

import pipeline.generators
from features.datasets.base import SPLITS
from features.errors import InputError, raise_all
from features.formats.tensors import read_tensors
from features.image_store.store import ImageStore
from features.index import read_index
from features.lookup import find, names
from features.settings import parse
from features.text.text_tower import TextTower
from pipeline.artifacts import paths
from pipeline.artifacts.task import load_task
from pipeline.config.params import Params
from pipeline.generators._prompt_vae import PromptVae
from pipeline.generators.base import Generator
from pipeline.steps.nearest_words import contexts_of
from pipeline.steps.synthesize import load_generator
from pipeline.training.data import first_of_each_class

CPU = torch.device("cpu")


def learned_contexts(
    params: Params, cell: paths.TaskPaths, run: str, *, seed: int, images: Sequence[str], tower: TextTower
) -> tuple[list[str], Tensor]:
    """Whose each context is (a class, an image, or nobody's), and the contexts (G, M, W).

    Without `images` a generator reads the first training image of each seen class.

    Raises:
        InputError: the run learned no prompts, was not fitted, or there are no such images.
    """
    task = load_task(cell)
    if run not in names(pipeline.generators):
        if images:
            raise InputError(f"{run!r} has one context for all images; --image is for {', '.join(_readers())}")
        state, _ = read_tensors(paths.weights(cell.fitted(run), seed))
        contexts = contexts_of(state)
        if contexts is None:
            raise InputError(f"{run!r} learned no prompts; coop, kgcoop, cocoop, proda, vpt and plot do, and ship")
        owners = task.classes.names if len(contexts) == len(task.classes) else [""] * len(contexts)
        return list(owners), contexts
    block = params.block("generators", run, task.header.trained_on)
    model = load_generator(
        parse(find(pipeline.generators, run, Generator), *block), cell.generator(run), seed, tower, CPU
    )
    if not isinstance(model, PromptVae):
        raise InputError(f"{run!r} reads no prompt in an image; {', '.join(_readers())} do")
    if images:
        store = paths.EncoderPaths(cell.artifacts).features(task.header.trained_on)
        return list(images), model.contexts_of_images(_features(images, task.header.trained_on, store))
    train = task.seed(seed)
    rows = first_of_each_class(train)
    owners = [task.classes.names[label] for label in train.labels[rows].tolist()]
    return owners, model.contexts_of_images(train.centre[rows])


def _readers() -> list[str]:
    """Generators whose encoder reads a prompt in an image."""
    return [name for name in names(pipeline.generators) if name.startswith("ship")]


def _features(images: Sequence[str], dataset: str, folder: Path) -> Tensor:
    """Unit features (N, D) of images by their paths in the index, whatever their split.

    Raises:
        InputError: paths that the index does not have, all of them.
    """
    index, store = read_index(paths.index(dataset)), ImageStore.open(folder)
    row = {path: i for i, path in enumerate(index.paths)}
    missing = [repr(path) for path in images if path not in row]
    raise_all(missing, f"no images of {dataset!r}; a path looks as in {paths.index(dataset)}: {index.paths[0]!r}")
    first = {split: int(index.rows(split)[0]) for split in SPLITS if len(index.rows(split))}
    found = []
    for path in images:
        split = index.splits[row[path]]
        found.append(store.load(split).features[row[path] - first[split], 0])
    return F.normalize(torch.stack([torch.from_numpy(feature).float() for feature in found]), dim=-1)
