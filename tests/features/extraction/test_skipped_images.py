"""Images that were left out (`extract.on_bad_image: skip`), from the files to every table that they affect."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from pictures import picture
from project_root import ROOT
from small_repo import PARAMS, stage, write_encoder, write_params

from pipeline.config.params import load
from pipeline.report.build import write_report
from pipeline.report.console import read_summary, results_text

CELL = {"dataset": "mine", "task": "base_to_new"}
BAD = ("train/cat/0.png", "train/kite/1.png", "test/drum/0.png", "test/drum/2.png")


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write files of four classes; four files are no pictures, three of them of the seen classes `cat` and `drum`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    write_encoder(tmp_path)
    splits, classes = ("train", "val", "test"), ("cat", "drum", "kite", "owl")
    names = [f"{split}/{name}/{i}.png" for split in splits for name in classes for i in range(3)]
    for number, file in enumerate(tmp_path / "data/mine" / name for name in names):
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(file)
    for name in BAD:
        (tmp_path / "data/mine" / name).write_bytes(b"<html>")
    grid = {"methods": ["zero_shot"], "generators": [], "synthetic_methods": [], "seeds": [1]}
    sets = {"mine": {"reader": "image_folder", "path": "mine", "splits": "folders"}}
    changed = {"data": {"root": "data", "sets": sets}, "extract": {**PARAMS["extract"], "on_bad_image": "skip"}}
    write_params(Path(), {**PARAMS, "grid": {**PARAMS["grid"], **grid}, **changed})


def test_every_table_shows_how_many_images_were_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    stage("index", dataset="mine")
    stage("extract", dataset="mine")
    stage("text_tower")
    stage("classes", dataset="mine")
    stage("build_task", **CELL)
    stage("fit", **CELL, method="zero_shot")
    stage("evaluate", **CELL, method="zero_shot")
    write_report(load(), Path("report"))
    capsys.readouterr()
    counts_of_splits = "(extract.on_bad_image: skip): 2 of base, 1 of training."
    assert counts_of_splits in Path("report/summary.md").read_text(encoding="utf-8")
    assert counts_of_splits in Path("report/index.html").read_text(encoding="utf-8")
    assert counts_of_splits in results_text(read_summary(Path("report")), Path("report"), Path("page"))
    with Path("report/results.csv").open(encoding="utf-8") as file:
        counts = {row["eval_split"]: (row["n"], row["unreadable_images"]) for row in csv.DictReader(file)}
    assert counts == {"base": ("4", "3"), "new": ("6", "1"), "harmonic_mean": ("10", "3")}
