"""Tests of a transfer: train on one data set, evaluate on another, with every stage and a small encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pictures import picture
from project_root import ROOT
from small_repo import PARAMS, stage, write_encoder, write_params

from pipeline.artifacts.paths import EncoderPaths, TaskPaths
from pipeline.artifacts.task import load_task, load_test, load_train
from pipeline.config.params import load
from pipeline.report.build import read_grid, summarize
from pipeline.report.generators import read_qualities
from pipeline.report.tables import markdown

SOURCE, TARGET = ("cat", "sea horse", "drum"), ("Sea_Horse", "dotted", "striped")
GRID = {
    "datasets": ["mine", "other"],
    "tasks": ["transfer"],
    "methods": ["zero_shot", "tip_adapter"],
    "synthetic_methods": ["tip_adapter"],
    "seeds": [1],
}
ALL_TRAIN = [0.7, 0.0, 0.3]  # no validation image is drawn from the folder `train`
SETS = {
    name: {"reader": "image_folder", "path": name, "splits": "folders", "fractions": ALL_TRAIN}
    for name in ("mine", "other")
}
CELL = {"dataset": "other", "task": "transfer"}


def write_project(folder: Path, **task: Any) -> None:
    """Write `params.yaml` with a task that trains on `mine`."""
    tasks = {"transfer": {"protocol": "cross_dataset", "source": "mine", "shots": 2, **task}}
    grid, data = {**PARAMS["grid"], **GRID}, {"root": "data", "sets": SETS}
    methods = {"zero_shot": {}, "tip_adapter": {"beta_points": 2, "alpha_points": 2}}
    write_params(folder, {**PARAMS, "grid": grid, "data": data, "tasks": tasks, "methods": methods})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data sets that share one class name, after the stages that do not depend on a task."""
    root = tmp_path_factory.mktemp("project")
    write_encoder(root)
    number = 0
    for dataset, classes in (("mine", SOURCE), ("other", TARGET)):
        for split in ("train", "test"):
            for name in classes:
                folder = root / "data" / dataset / split / name
                folder.mkdir(parents=True)
                for i in range(3):
                    picture(number := number + 1).save(folder / f"{i}.png")
    write_project(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for dataset in ("mine", "other"):
            stage("index", dataset=dataset)
            stage("extract", dataset=dataset)
        stage("text_tower")
        for dataset in ("mine", "other"):
            stage("classes", dataset=dataset)
    return root


@pytest.fixture(autouse=True)
def _inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "assets").is_symlink() or (project / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(project)


def cell() -> TaskPaths:
    return EncoderPaths(Path("artifacts/tiny")).cell("other", "transfer")


def test_the_source_provides_training_images_and_the_target_test_images() -> None:
    stage("build_task", **CELL)
    task = load_task(cell())
    assert task.classes.names == ("cat", "drum", "Sea_Horse", "dotted", "striped")
    assert task.classes.seen.tolist() == [True, True, True, False, False]
    assert (task.header.dataset, task.header.trained_on) == ("other", "mine")
    train = task.seed(1)
    assert train.labels.bincount().tolist() == [2, 2, 2]
    _, (eval_split,) = load_test(cell().test)
    assert eval_split.candidates.tolist() == [2, 3, 4]
    assert sorted(eval_split.rows.labels.tolist()) == [2] * 3 + [3] * 3 + [4] * 3


def test_all_stages_run_and_the_source_has_its_own_table() -> None:
    for dataset in ("mine", "other"):
        names = {"dataset": dataset, "task": "transfer"}
        stage("build_task", **names)
        for method in ("zero_shot", "tip_adapter"):
            stage("fit", **names, method=method)
            stage("evaluate", **names, method=method)
        for name in ("train_generator", "synthesize", "evaluate_generator"):
            stage(name, **names, generator="ship")
        stage("fit", **names, method="tip_adapter", generator="ship")
        stage("evaluate", **names, method="tip_adapter", generator="ship")
    params = load()
    summary = summarize(params, read_grid(params), read_qualities(params), [])
    source, target = summary.tables
    assert [table.columns for table in summary.tables] == [("source",), ("target",)]
    runs = {row.run: row.values["target"].mean for row in target.rows}
    assert runs["tip_adapter"] is None, "it has no training features for the target's own class"
    assert runs["tip_adapter+ship"] is not None
    plain, synthetic = (row.values["source"].mean for row in source.rows[1:])
    assert plain == synthetic, "nothing is unseen on the source, so nothing is synthesized"
    assert "mine, transfer" in markdown(summary)


def test_a_draw_file_determines_the_training_images() -> None:
    folder = Path("draws/theirs/mine")
    folder.mkdir(parents=True)
    selected = [f"/their/disk/train/{name}/{i}.png" for name in SOURCE for i in (0, 2)]
    (folder / "shot_2-seed_1.json").write_text(json.dumps({"train": {"data": selected}}), encoding="utf-8")
    write_project(Path(), draws="theirs")
    stage("build_task", **CELL)
    assert load_train(cell().train).rows(1).rows.tolist() == [0, 2, 3, 5, 6, 8]
    write_project(Path())
