"""Diagnostics files: confusions, reliability, projections, training logs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from features.formats.files import write_mark
from pipeline.artifacts.task import EvalRows, Rows
from pipeline.config.params import Visualization
from pipeline.metrics.diagnostics import SplitLogits, confusion, reliability, write_diagnostics
from pipeline.steps.visualize_features import Points, collect_points, pca, umap, write_projection
from pipeline.training.data import LabelledFeatures
from pipeline.training.log import TrainingLog, log_epochs_to, report_epoch

LOGITS = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 3.0], [0.0, 5.0, 0.0], [0.0, 0.0, 4.0]])
LABELS = torch.tensor([0, 1, 1, 2])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_confusion_counts_images_by_class_and_prediction() -> None:
    assert confusion(LOGITS, LABELS).tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]


def test_reliability_bins_the_highest_probability() -> None:
    p = LOGITS.double().softmax(1).numpy()
    confidence, right = p.max(1), p.argmax(1) == LABELS.numpy()
    bins = np.ceil(confidence * 5).astype(int) - 1
    expected = [
        (b, (bins == b).sum(), 100 * confidence[bins == b].mean(), 100 * right[bins == b].mean())
        for b in np.unique(bins)
    ]
    assert np.allclose(reliability(LOGITS, LABELS, bins=5), expected)
    assert reliability(torch.zeros(2, 2), torch.tensor([0, 1]), bins=2) == [(0, 2, 50.0, 50.0)]  # 0.5 is in (0, 0.5]


def test_diagnostics_pool_the_seeds_and_name_the_classes(tmp_path: Path) -> None:
    seeds = [SplitLogits(LOGITS, LABELS, ("cat", "dog", "sea horse"))] * 2
    (tmp_path / "log.csv").write_text("seed,epoch,loss\n")
    write_mark(tmp_path)
    write_diagnostics(tmp_path / "out", {"base": seeds}, tmp_path)
    counts = {(r["class"], r["predicted"]): r["images"] for r in rows(tmp_path / "out/confusion.csv")}
    assert counts == {("cat", "cat"): "2", ("dog", "dog"): "2", ("dog", "sea horse"): "2", ("sea horse",) * 2: "2"}
    assert sum(int(r["images"]) for r in rows(tmp_path / "out/reliability.csv")) == 8
    assert (tmp_path / "out/training.csv").read_text() == "seed,epoch,loss\n"


def test_a_fit_without_a_log_has_no_training_csv(tmp_path: Path) -> None:
    write_diagnostics(tmp_path / "out", {"base": [SplitLogits(LOGITS, LABELS, "abc")]}, tmp_path)
    assert not (tmp_path / "out/training.csv").exists()


def test_a_projection_keeps_far_clusters_apart_and_repeats_bit_by_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(at, 0.1, size=(20, 8)) for at in (0, 5)])
    points = Points(x, ["a"] * 20 + ["b"] * 20, ["real", "synthetic"] * 20)
    for flat in (pca(x), umap(x)):
        assert np.linalg.norm(flat[:20].mean(0) - flat[20:].mean(0)) > 3 * flat[:20].std(0).max()
    for name in ("one.csv", "two.csv"):
        write_projection(points, ["pca", "umap"], tmp_path / name)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    assert len(rows(tmp_path / "one.csv")) == 80


def test_points_are_the_first_features_of_classes_spread_over_the_unseen(tmp_path: Path) -> None:
    classes = tiny.classes(tiny.tower(), seen=2)  # 2 to 5 are unseen

    def features(labels: list[int], first: int) -> np.ndarray:
        numbers = np.arange(first, first + len(labels), dtype=np.float16)
        return np.stack([numbers, np.ones_like(numbers)], axis=1)[:, None]  # direction (number, 1)

    def split(labels: list[int], first: int) -> EvalRows:
        numbers = np.arange(len(labels))
        return EvalRows("new", "micro", np.arange(6), Rows(features(labels, first), np.array(labels), numbers))

    labels = [2, 3, 4, 5, 2, 4]
    synthetic = LabelledFeatures(torch.from_numpy(features(labels, 1)).float(), torch.tensor(labels))
    settings = Visualization(classes=2, per_class=1, methods=["pca"])
    points = collect_points(classes, [split([0, 4], 10), split([2, 4, 2], 20)], synthetic, settings)

    assert list(points.classes) == [classes.names[i] for i in (2, 2, 4, 4)]
    assert list(points.kinds) == ["real", "synthetic"] * 2
    np.testing.assert_allclose(np.linalg.norm(points.features, axis=1), np.ones(4))
    # class 2 is in the second split first, class 4 in the first; synthetic features are those of rows 0 and 2
    np.testing.assert_allclose(points.features[:, 0] / points.features[:, 1], [20, 1, 11, 3], rtol=1e-6)

    none_unseen = collect_points(tiny.classes(tiny.tower(), seen=6), [], synthetic, settings)
    write_projection(none_unseen, ["pca"], tmp_path / "projection.csv")
    assert rows(tmp_path / "projection.csv") == []


def test_a_training_log_is_on_disk_during_training(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with TrainingLog(tmp_path / "log.csv", "fitted/a/b/coop", 2) as log:
        with log_epochs_to(log.of(1)):
            report_epoch({"epoch": 1, "loss": 1 / 3}, 2)
        assert (tmp_path / "log.csv").read_text() == "seed,epoch,loss\n1,1,0.333333\n"
        report_epoch({"epoch": 9, "loss": 9.0}, 9)  # nobody listens
        with log_epochs_to(log.of(2)):
            report_epoch({"epoch": 1, "loss": 0.25}, 2)
    assert (tmp_path / "log.csv").read_text().endswith("2,1,0.25\n")
    assert capfd.readouterr().err.startswith("fitted/a/b/coop: 4 epochs, 2 in 0:00")


def test_a_method_without_epochs_has_no_log(tmp_path: Path) -> None:
    with TrainingLog(tmp_path / "log.csv", "fitted/a/b/zero_shot", 1) as log, log_epochs_to(log.of(1)):
        pass
    assert not (tmp_path / "log.csv").exists()
