"""Copies of a picture in training and test images are said beside the results."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from pictures import picture
from project_root import ROOT

from features.datasets.base import reader_from
from features.index import write_index
from pipeline.artifacts import paths
from pipeline.cli.stale import copies_across_splits, stale_indexes
from pipeline.config import params


def test_copies_across_given_splits_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(8):
        file = tmp_path / f"data/mine/{'train' if number % 2 else 'test'}/cat/{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(file)
    shutil.copy("data/mine/train/cat/1.png", "data/mine/test/cat/copy.png")
    block = {"reader": "image_folder", "path": "mine", "splits": "folders"}
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["data"] = {"root": "data", "sets": {"mine": block}}
    values["grid"]["datasets"] = ["mine"]
    current = params.Params.model_validate(values)
    assert list(copies_across_splits(current)) == []

    listing = reader_from(block, "test").read(Path("data"))
    write_index(listing, Path("data/mine"), paths.index("mine"), paths.names("mine"), paths.digests("mine"))
    [line] = copies_across_splits(current)
    assert "test/cat/copy.png = train/cat/1.png" in line
    assert stale_indexes(current) == {}
