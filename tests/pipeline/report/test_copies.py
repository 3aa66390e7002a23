"""Copies of pictures are shown on the page of this machine, those that make a result wrong first."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path

import pytest
import yaml
from pictures import picture
from PIL import Image
from project_root import ROOT

from features.datasets.base import reader_from
from features.index import write_index
from pipeline.artifacts import paths
from pipeline.config import params
from pipeline.report.copies import copies


def test_copies_across_splits_come_first_and_their_pictures_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(8):
        file = Path(f"data/mine/{'train' if number % 2 else 'test'}/{'cat' if number < 4 else 'dog'}/{number}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(file)
    shutil.copy("data/mine/train/cat/1.png", "data/mine/train/cat/again.png")
    shutil.copy("data/mine/train/dog/5.png", "data/mine/test/dog/copy.png")
    block = {"reader": "image_folder", "path": "mine", "splits": "folders"}
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["data"] = {"root": "data", "sets": {"mine": block}}
    values["grid"]["datasets"] = ["mine"]
    current = params.Params.model_validate(values)
    assert list(copies(current)) == []

    listing = reader_from(block, "test").read(Path("data"))
    write_index(listing, Path("data/mine"), paths.index("mine"), paths.names("mine"), paths.digests("mine"))
    [found] = copies(current)
    assert [[(image.path, image.label) for image in members] for members in found.sets] == [
        [("test/dog/copy.png", "dog"), ("train/dog/5.png", "dog")],
        [("train/cat/1.png", "cat"), ("train/cat/again.png", "cat")],
    ]
    assert found.sets[0][0].split == "test"
    assert Image.open(io.BytesIO(base64.b64decode(found.sets[0][0].data))).format == "JPEG"
    assert len(found.lines) == 2
    assert not found.missing

    shutil.rmtree("data/mine/train/cat")
    [found] = copies(current)
    assert len(found.sets) == 1
    assert "train/cat/1.png" in found.missing
