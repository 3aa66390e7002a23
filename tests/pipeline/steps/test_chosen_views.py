"""Stages that learn from images take the views of the family that their method or generator names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_generators
import tiny
import torch
from small_task import CLASSES, TOWER, TRAIN, VALIDATION, fit, method

from features.errors import InputError
from features.formats.tensors import load_tensors, save_tensors
from pipeline.artifacts.logits import read_logits
from pipeline.artifacts.paths import EncoderPaths, TaskPaths, logits_file, weights
from pipeline.artifacts.task import Header, Rows, load_task, load_train, save_train
from pipeline.steps.fit import fit as fit_step
from pipeline.steps.synthesize_folds import synthesize_folds
from pipeline.steps.train_generator import train_generator
from pipeline.steps.validate import validate
from pipeline.training.data import LabelledFeatures

SHA = "0" * 64
HEADER = Header("d", "d", "t", "own_images", 8, ("seen", "unseen"), "tiny", SHA)
CPU = torch.device("cpu")
SEEN = CLASSES.subset(CLASSES.seen_ids)
WIDE = tiny.features([0, 1, 2, 3], 8, 3, noise=0.3).features[:, 1:]  # two views of each image

ONE_FAMILY = LabelledFeatures(torch.cat([TRAIN.features[:, :1], WIDE], 1), TRAIN.labels)
BOTH = LabelledFeatures(torch.cat([TRAIN.features, WIDE], 1), TRAIN.labels)


def rows(images: LabelledFeatures) -> Rows:
    return Rows(images.features.numpy().astype(np.float16), images.labels.numpy(), np.arange(len(images)))


def cell(folder: Path, train: LabelledFeatures, families: tuple[str, ...] = ()) -> TaskPaths:
    """Write the files of the small task, without test images."""
    header = replace(HEADER, view_families=families)
    paths = EncoderPaths(folder).cell("d", "t")
    save_train(paths.train, header, SEEN, {1: rows(train)})
    save_train(paths.validation, header, SEEN, {1: rows(VALIDATION)})
    save_train(paths.unseen, header, CLASSES.subset(CLASSES.unseen_ids), {})
    return paths


def fitted(paths: TaskPaths, family: str | None) -> dict[str, torch.Tensor]:
    given = {"seeds": [1], "tower": None, "synthetic": None, "device": CPU, "out": paths.fitted("taskres")}
    settings = method("taskres", epochs=3, view_family=family)
    fit_step(settings, load_task(paths), load_train(paths.validation), **given)  # type: ignore[arg-type]
    return load_tensors(weights(paths.fitted("taskres"), 1), CPU, weights_sha256=SHA)


def validated(paths: TaskPaths, family: str | None) -> dict[str, torch.Tensor]:
    save_tensors(fit("taskres").state(), weights(paths.fitted("taskres"), 1), weights_sha256=SHA)
    out = paths.validation_logits("taskres")
    given = {"seeds": [1], "tower": None, "fitted": paths.fitted("taskres"), "synthetic": None, "device": CPU}
    settings = method("taskres", epochs=3, view_family=family)
    validate(settings, load_task(paths), load_train(paths.validation), out=out, **given)  # type: ignore[arg-type]
    logits = read_logits(logits_file(out, 1)).seeds[1]
    return {name: torch.as_tensor(np.asarray(logits[name])) for name in ("fold1", "fold2")}


def trained(paths: TaskPaths, family: str | None) -> dict[str, torch.Tensor]:
    generator = small_generators.generator("vae_scratch").model_copy(update={"view_family": family})
    out = paths.generator("vae_scratch")
    train_generator(generator, load_train(paths.train), seeds=[1], tower=TOWER, device=CPU, out=out)
    return load_tensors(weights(out, 1), CPU, weights_sha256=SHA)


def folded(paths: TaskPaths, family: str | None) -> dict[str, torch.Tensor]:
    generator = small_generators.generator("vae_scratch").model_copy(update={"view_family": family})
    out = paths.fold_features("vae_scratch")
    given = {"seeds": [1], "per_class": 2, "tower": TOWER, "device": CPU, "out": out}
    synthesize_folds(generator, load_train(paths.train), **given)  # type: ignore[arg-type]
    files = sorted(out.rglob("*.parquet"))
    return {str(file.relative_to(out)): torch.tensor(list(file.read_bytes())) for file in files}


@pytest.mark.parametrize("stage", [fitted, validated, trained, folded])
def test_a_stage_learns_from_the_family_alone(
    stage: Callable[[TaskPaths, str | None], dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    named = stage(cell(tmp_path / "both", BOTH, ("wide",)), "wide")
    alone = stage(cell(tmp_path / "alone", ONE_FAMILY), None)
    first = stage(cell(tmp_path / "first", BOTH, ("wide",)), None)
    plain = stage(cell(tmp_path / "plain", TRAIN), None)
    assert named.keys() == alone.keys() == first.keys()
    assert all(torch.equal(named[key], alone[key]) for key in named)
    assert all(torch.equal(first[key], plain[key]) for key in first)
    assert any(not torch.equal(named[key], first[key]) for key in named)


def test_a_family_that_the_task_lacks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.h5.*'wide'.*extract\.view_families"):
        fitted(cell(tmp_path, TRAIN), "wide")


def test_the_header_of_a_task_with_one_family_does_not_name_it(tmp_path: Path) -> None:
    assert b"view_families" not in cell(tmp_path / "one", TRAIN).train.read_bytes()
    assert load_train(cell(tmp_path / "two", BOTH, ("wide",)).train).header.view_families == ("wide",)
