"""`evaluate`: scores of every seed, and the reason where classes cannot be scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from project_root import ROOT
from small_task import CLASSES, SYNTHETIC, VALIDATION, fit, method

from features.errors import InputError
from features.formats.tensors import save_tensors
from pipeline.artifacts.paths import EncoderPaths, TaskPaths, run_name, weights
from pipeline.artifacts.scores import Scores, read_scores
from pipeline.artifacts.task import EvalRows, Header, Rows, save_test
from pipeline.config.params import load
from pipeline.steps.evaluate import _reason, evaluate
from pipeline.training.data import LabelledFeatures

SHA = "0" * 64
NEED_IMAGES = ["tip_adapter", "tip_adapter_f", "linear_probe", "lp_plus_plus"]  # of every class, to score it


def rows(images: LabelledFeatures, *, broken: int = 0) -> Rows:
    features = images.features[:, :1].numpy().astype(np.float16)
    features[:broken, 0, 3] = np.nan
    return Rows(features, images.labels.numpy(), np.arange(len(images)))


def evaluated(folder: Path, name: str, generator: str | None = None, *, broken: int = 0) -> Scores:
    """Return the score file of a method fitted on the small task and evaluated on seen and on other classes."""
    cell: TaskPaths = EncoderPaths(folder).cell("d", "t")
    header = Header("d", "d", "t", "base_to_new", 8, ("base", "new"), "tiny", SHA)
    eval_splits = [
        EvalRows("base", "micro", np.arange(4), rows(VALIDATION, broken=broken)),
        EvalRows("new", "micro", np.arange(4, 6), rows(SYNTHETIC)),
    ]
    save_test(cell.test, header, eval_splits, CLASSES.names, CLASSES.seen.tolist())
    fitted = fit(name, SYNTHETIC if generator else None)
    run = run_name(name, generator)
    save_tensors(fitted.state(), weights(cell.fitted(run), 1), weights_sha256=SHA)
    evaluate(
        type(method(name)), name=name, generator=generator, seeds=[1], tower=None, device=torch.device("cpu"), cell=cell
    )
    return read_scores(cell.scores(run))


@pytest.mark.parametrize("name", NEED_IMAGES)
def test_a_method_that_needs_images_has_a_dash_for_classes_without_and_names_them(name: str, tmp_path: Path) -> None:
    (seed,) = evaluated(tmp_path, name).seeds
    assert seed.eval_splits["base"].accuracy == 100.0
    assert seed.eval_splits["new"].accuracy is None
    reason = seed.eval_splits["new"].reason
    assert reason is not None
    for part in ("2 of 2 classes", "'dog'", "'windsor chair'"):
        assert part in reason
    assert seed.harmonic_mean is None


def test_no_method_of_the_default_grid_needs_images_of_every_class() -> None:
    assert {*load(ROOT / "params.yaml").grid.methods}.isdisjoint(NEED_IMAGES)


def test_the_reason_names_three_of_many_classes() -> None:
    reason = _reason(list("abcde"), 9)
    assert "5 of 9 classes" in reason
    assert "'a', 'b', 'c' and 2 more" in reason
    assert "'d'" not in reason


def test_a_method_with_synthetic_features_scores_the_unseen_classes(tmp_path: Path) -> None:
    (seed,) = evaluated(tmp_path, "tip_adapter", "ship").seeds
    assert seed.eval_splits["new"].accuracy == 100.0
    assert seed.harmonic_mean == 100.0


def test_broken_test_features_raise_instead_of_giving_a_dash(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 of 12 features"):
        evaluated(tmp_path, "zero_shot", broken=1)
    assert not EncoderPaths(tmp_path).cell("d", "t").scores("zero_shot").exists()
