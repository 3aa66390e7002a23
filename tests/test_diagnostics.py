"""What is kept to look at: confusions, reliability, projections, training logs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.metrics.diagnostics import SplitLogits, confusion, reliability, write_diagnostics
from pipeline.steps.visualize_features import Points, pca, umap, write_projection
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


def test_seeds_are_pooled_and_names_stand_in_the_file(tmp_path: Path) -> None:
    seeds = [SplitLogits(LOGITS, LABELS, ("cat", "dog", "sea horse"))] * 2
    (tmp_path / "log.csv").write_text("seed,epoch,loss\n")
    write_diagnostics(tmp_path / "out", {"base": seeds}, tmp_path)
    found = {(r["class"], r["predicted"]): r["images"] for r in rows(tmp_path / "out/confusion.csv")}
    assert found == {("cat", "cat"): "2", ("dog", "dog"): "2", ("dog", "sea horse"): "2", ("sea horse",) * 2: "2"}
    assert sum(int(r["images"]) for r in rows(tmp_path / "out/reliability.csv")) == 8
    assert (tmp_path / "out/training.csv").read_text() == "seed,epoch,loss\n"


def test_a_run_without_a_log_has_no_curve(tmp_path: Path) -> None:
    write_diagnostics(tmp_path / "out", {"base": [SplitLogits(LOGITS, LABELS, "abc")]}, tmp_path)
    assert not (tmp_path / "out/training.csv").exists()


def test_a_projection_keeps_far_clusters_apart_and_is_the_same_twice(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(at, 0.1, size=(20, 8)) for at in (0, 5)])
    found = Points(x, ["a"] * 20 + ["b"] * 20, ["real", "synthetic"] * 20)
    for flat in (pca(x), umap(x)):
        assert np.linalg.norm(flat[:20].mean(0) - flat[20:].mean(0)) > 3 * flat[:20].std(0).max()
    for name in ("one.csv", "two.csv"):
        write_projection(found, ["pca", "umap"], tmp_path / name)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    assert len(rows(tmp_path / "one.csv")) == 80


def test_a_training_log_is_on_disk_while_training_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
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
