"""A copy that lacks images, from its folder to the report: every number is marked."""

from __future__ import annotations

import csv
import dataclasses
import re
from pathlib import Path

import layouts
import pytest
from pictures import picture
from project_root import ROOT
from small_repo import PARAMS, stage, write_encoder, write_params

from features.datasets.base import Counts
from features.datasets.oxford_pets import OxfordPets
from features.errors import InputError
from pipeline.artifacts.paths import EncoderPaths
from pipeline.artifacts.task import load_test, load_train
from pipeline.config.params import load
from pipeline.report.build import read_grid, write_report

CELL = {"dataset": "pets", "task": "base_to_new"}


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make Oxford Pets with two breeds of four photographs each; `pug_4.jpg` is missing."""
    counts = Counts(train=2, val=2, test=4, classes=2)
    monkeypatch.setattr(OxfordPets, "origin", dataclasses.replace(OxfordPets.origin, counts=counts))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    write_encoder(tmp_path)
    breeds = {name.lower(): [f"{name}_{i}.jpg" for i in (1, 2, 3, 4)] for name in ("Abyssinian", "pug")}
    layouts.zhou(tmp_path / "data/oxford_pets", "images", "OxfordPets", layouts.split_of(**breeds))
    for number, file in enumerate(sorted((tmp_path / "data/oxford_pets/images").iterdir())):
        picture(number).save(file)
    file.unlink()
    write(allow_partial=True)


def write(*, allow_partial: bool) -> None:
    grid = {"datasets": ["pets"], "methods": ["zero_shot"], "generators": [], "synthetic_methods": [], "seeds": [1]}
    pets = {"reader": "oxford_pets", "path": "oxford_pets", "allow_partial": allow_partial}
    tasks = {"base_to_new": {"protocol": "base_to_new", "shots": 1}}
    data = {"root": "data", "sets": {"pets": pets}}
    write_params(Path(), {**PARAMS, "grid": {**PARAMS["grid"], **grid}, "data": data, "tasks": tasks})


def test_every_number_of_the_report_is_marked() -> None:
    for name in ("index", "extract"):
        stage(name, dataset="pets")
    stage("text_tower")
    stage("classes", dataset="pets")
    stage("build_task", **CELL)
    params = load()
    cell = EncoderPaths(params.artifacts).cell("pets", "base_to_new")
    for header in (load_train(cell.train).header, load_test(cell.test)[0]):
        assert header.missing == {"pets": 1}
    stage("fit", **CELL, method="zero_shot")
    stage("evaluate", **CELL, method="zero_shot")
    (scores,) = read_grid(params)
    assert [scores.seeds[0].eval_splits[name].n for name in ("base", "new")] == [2, 1]
    write_report(params, Path("report"))
    rows = list(csv.DictReader(Path("report/results.csv").read_text(encoding="utf-8").splitlines()))
    assert rows
    assert {row["missing_images"] for row in rows} == {"1"}
    text = Path("report/summary.md").read_text(encoding="utf-8")
    assert "pets is a partial copy that lacks 1 images: every number from it is marked *." in text
    row = next(line for line in text.splitlines() if line.startswith("| `zero_shot`"))
    assert re.findall(r"\d\.\d\d(.)", row) == ["*"] * 3


def test_it_is_refused_unless_it_is_allowed() -> None:
    write(allow_partial=False)
    with pytest.raises(InputError, match=r"(?s)allow_partial: true.*pug_4\.jpg"):
        stage("index", dataset="pets")
    assert not Path("artifacts").exists()
