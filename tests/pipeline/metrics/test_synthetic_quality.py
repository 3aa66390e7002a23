"""Measures of synthetic features: against formulas in NumPy, and on features with known faults."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.artifacts.task import EvalRows, Rows
from pipeline.metrics import synthetic_features
from pipeline.metrics.synthetic_features import (
    auc,
    frechet_distance,
    nearest_mean_accuracy,
    neighbourhoods,
    quality,
    real_vs_synthetic_auc,
    spread,
)
from pipeline.steps.evaluate_generator import unseen_images

CLASSES, DIM = 4, 16


def drawn(seed: int, per_class: int = 40, noise: float = 0.1, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return unit features around one direction per class, and their labels."""
    centres = torch.eye(CLASSES, DIM)
    labels = torch.arange(CLASSES).repeat_interleave(per_class)
    off = noise * torch.randn(len(labels), DIM, generator=torch.Generator().manual_seed(seed))
    return F.normalize(centres[labels] + shift + off, dim=-1), labels


def test_spread_is_the_mean_standard_deviation_within_classes() -> None:
    x, labels = drawn(0)
    expected = np.mean([x.numpy()[labels.numpy() == i].std(0, ddof=1).mean() for i in range(CLASSES)])
    assert spread(x, labels) == pytest.approx(expected, rel=1e-5)


def test_frechet_distance_is_that_of_gaussians() -> None:
    real, synthetic = drawn(0)[0].numpy().astype(float), drawn(1, 30, 0.2)[0].numpy().astype(float)
    s_1, s_2 = np.cov(real.T), np.cov(synthetic.T)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(s_1 @ s_2).real, 0))  # of S_1 S_2, similar to a positive matrix
    expected = np.sum((real.mean(0) - synthetic.mean(0)) ** 2) + np.trace(s_1) + np.trace(s_2) - 2 * roots.sum()
    ours = frechet_distance(torch.from_numpy(real), torch.from_numpy(synthetic))
    assert ours == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_features_to_themselves_is_zero() -> None:
    assert frechet_distance(drawn(0)[0], drawn(0)[0]) == pytest.approx(0, abs=1e-9)


def test_neighbourhood_measures_count_balls() -> None:
    real, synthetic = torch.tensor([[0.0], [1.0], [2.0], [10.0]]), torch.tensor([[0.5], [1.5], [30.0]])
    # k = 1: real balls reach 1, 1, 1 and 8, synthetic ones 1, 1 and 28.5
    measures = neighbourhoods(real, synthetic, k=1)
    inside = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])  # real ball x synthetic feature; |10 - 1.5| > 8
    assert measures == {
        "precision": pytest.approx(100 * inside.any(0).mean()),
        "recall": pytest.approx(100.0),  # 10 lies in the ball of 30
        "density": pytest.approx(100 * inside.sum() / 3),
        "coverage": pytest.approx(100 * inside.any(1).mean()),
    }


def test_copies_of_a_prototype_are_precise_and_cover_little() -> None:
    """A collapsed posterior makes such copies; precision alone would rate them best."""
    real, (honest, _), (copies, _) = drawn(0)[0], drawn(1), drawn(1, noise=0.001)
    good, collapsed = neighbourhoods(real, honest), neighbourhoods(real, copies)
    assert collapsed["precision"] >= good["precision"]
    assert collapsed["recall"] < 5
    assert good["recall"] > 50
    assert good["coverage"] > 80


def test_auc_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(0, 5, 30), rng.integers(0, 5, 20)
    pairs = positive[:, None] - negative
    expected = np.mean((pairs > 0) + 0.5 * (pairs == 0))
    assert auc(torch.from_numpy(positive).double(), torch.from_numpy(negative).double()) == pytest.approx(expected)


def test_a_classifier_separates_shifted_features_only() -> None:
    assert real_vs_synthetic_auc(drawn(0, 200)[0], drawn(1, 200)[0]) == pytest.approx(0.5, abs=0.07)
    assert real_vs_synthetic_auc(drawn(0)[0], drawn(1, shift=0.3)[0]) > 0.99


def test_neighbourhoods_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    real, synthetic = drawn(0)[0], drawn(1, 30)[0]
    whole = neighbourhoods(real, synthetic)
    monkeypatch.setattr(synthetic_features, "BLOCK", 7)
    assert neighbourhoods(real, synthetic) == whole


def test_unseen_images_of_a_class_come_from_its_first_evaluation_split() -> None:
    classes = tiny.classes(tiny.tower(), seen=3)

    def split(name: str, labels: list[int], first: int) -> EvalRows:
        numbers = np.arange(first, first + len(labels))
        features = np.repeat(numbers[:, None, None], 32, axis=2).astype(np.float16)
        return EvalRows(name, "micro", np.arange(6), Rows(features, np.array(labels), numbers))

    images = unseen_images([split("new", [3, 4, 3], 1), split("all", [0, 3, 4, 5, 5, 0], 11)], classes)
    assert images.labels.tolist() == [3, 3, 5, 5]  # 4 has a single image in its first split
    assert images.features[:, 0, 0].tolist() == [1, 3, 14, 15]


def test_three_features_against_forty_have_an_auc() -> None:
    assert 0 <= real_vs_synthetic_auc(drawn(0)[0][:3], drawn(1)[0][:40]) <= 1


def test_nearest_mean_accuracy_is_zero_for_swapped_classes() -> None:
    real, labels = drawn(0)
    synthetic, synthetic_labels = drawn(1)
    swapped = synthetic_labels.clone()
    swapped[synthetic_labels == 0], swapped[synthetic_labels == 1] = 1, 0
    assert nearest_mean_accuracy(real, labels, synthetic, synthetic_labels) == dict.fromkeys(range(4), 100.0)
    assert nearest_mean_accuracy(real, labels, synthetic, swapped) == {0: 0.0, 1: 0.0, 2: 100.0, 3: 100.0}


def test_quality_returns_every_measure_and_leaves_its_inputs_unchanged() -> None:
    (real, labels), (synthetic, synthetic_labels) = drawn(0), drawn(1, 30)
    before = real.clone()
    measures = quality(real, labels + 7, synthetic, synthetic_labels + 7)
    assert set(measures) == {
        "spread_real",
        "spread_synthetic",
        "frechet",
        "precision",
        "recall",
        "density",
        "coverage",
        "real_vs_synthetic_auc",
        "nearest_mean_accuracy",
    }
    assert torch.equal(real, before)


def test_other_classes_dimensions_or_a_single_feature_are_rejected() -> None:
    (real, labels), (synthetic, synthetic_labels) = drawn(0), drawn(1)
    with pytest.raises(ValueError, match=r"\[0, 1, 2, 3\].*\[1, 2, 3, 4\]"):
        quality(real, labels, synthetic, synthetic_labels + 1)
    with pytest.raises(ValueError, match=r"\b16\b.*\b15\b"):
        quality(real, labels, synthetic[:, :15], synthetic_labels)
    with pytest.raises(ValueError, match="2 real and 2 synthetic"):
        quality(real[:41], labels[:41], synthetic[:41], synthetic_labels[:41])


def test_three_separable_features_have_an_auc_of_one() -> None:
    real, synthetic = torch.eye(8)[:3] + 5, torch.eye(8)[3:7]
    assert real_vs_synthetic_auc(real, synthetic) == 1.0
