"""Draws that others made: CoOp's pickles and the cross-modal authors' JSON, of which only the file names are read."""

from __future__ import annotations

import json
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.errors import InputError
from features.index import Index
from pipeline.steps.draws import Drawn, draw_file, listed

NAMES = {0: "cat", 1: "dog"}
PATHS = tuple(f"{name}/image_{i}.jpg" for name in ("cat", "dog") for i in range(4))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """Two classes of four training images, one of the same for validation, one for the test."""
    (tmp_path / "draws/coop/pets").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    others = ("cat/val.jpg", "dog/val.jpg", "cat/test.jpg")
    splits = ("train",) * 8 + ("val", "val", "test")
    return Index(
        paths=PATHS + others,
        class_ids=np.array([0] * 4 + [1] * 4 + [0, 1, 0], np.int32),
        splits=splits,  # type: ignore[arg-type]
        sizes=np.ones(11, np.int64),
        sha256=("",) * 11,
    )


def drawn(index: Index, classes: dict[int, str] = NAMES) -> Drawn:
    return listed(draw_file("coop", "pets", 2, 1), index, classes, 2)


def put(value: object, name: str = "shot_2-seed_1.json") -> None:
    Path("draws/coop/pets", name).write_text(json.dumps(value), encoding="utf-8")


def data(*paths: str) -> dict[str, Any]:
    return {"data": [{"impath": f"./data/pets/{path}", "label": 9, "classname": "x"} for path in paths]}


def test_the_cross_modal_authors_files(index: Index) -> None:
    chosen = [PATHS[i] for i in (3, 1, 4, 6)]
    put({"train": data(*chosen) | {"indices": [3, 1, 4, 6]}, "val": data("dog/val.jpg", "cat/val.jpg")})
    train, validation = drawn(index)
    assert train.tolist() == [1, 3, 4, 6]
    assert validation.tolist() == [0, 1]


class Datum:
    """What Dassl keeps of an image."""

    def __init__(self, path: str) -> None:
        self._impath, self._label, self._domain, self._classname = path, 0, 0, "cat"


@pytest.fixture
def dassl(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module to pickle from that is not there when the pickle is read."""
    module = types.ModuleType("dassl_like")
    module.Datum = Datum  # type: ignore[attr-defined]
    monkeypatch.setattr(Datum, "__module__", "dassl_like")
    monkeypatch.setitem(sys.modules, "dassl_like", module)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_coops_pickles_are_read_without_being_loaded(
    index: Index, dassl: None, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shots = [Datum(f"/data/pets/{PATHS[i]}") for i in (0, 2, 5, 7)]
    content = pickle.dumps({"train": shots, "val": [Datum("/data/pets/cat/val.jpg")]}, protocol)
    Path("draws/coop/pets/shot_2-seed_1.pkl").write_bytes(content)
    monkeypatch.delitem(sys.modules, "dassl_like")
    train, validation = drawn(index)
    assert (train.tolist(), validation.tolist()) == ([0, 2, 5, 7], [0])


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("touched"),)


def test_a_pickle_that_would_run_a_program_runs_none(index: Index) -> None:
    Path("draws/coop/pets/shot_2-seed_1.pkl").write_bytes(pickle.dumps({"train": [Evil()]}))
    with pytest.raises(InputError, match="0 images"):
        drawn(index)
    assert not Path("touched").exists()


def test_classes_outside_the_task_are_left_out(index: Index) -> None:
    put([PATHS[i] for i in (0, 1, 4, 5)])
    assert drawn(index, {1: "dog"})[0].tolist() == [4, 5]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([*PATHS[:2], *PATHS[4:7]], "'dog': 3 images"),
        ([*PATHS[:2], "dog/other.jpg"], "dog/other.jpg: not in the index"),
        ([*PATHS[:2], *PATHS[4:6], "cat/test.jpg"], "1 images are test images"),
    ],
)
def test_a_draw_of_something_else_is_refused(index: Index, value: list[str], message: str) -> None:
    put(value)
    with pytest.raises(InputError) as caught:
        drawn(index)
    assert message in str(caught.value)


def test_a_missing_draw_says_where_it_belongs(index: Index) -> None:
    with pytest.raises(InputError, match="copy CoOp's split_fewshot/ of pets"):
        draw_file("coop", "pets", 4, 3)


def test_a_damaged_pickle_is_named(index: Index) -> None:
    Path("draws/coop/pets/shot_2-seed_1.pkl").write_bytes(b"\xff\x00")
    with pytest.raises(InputError, match="cannot be read"):
        drawn(index)
