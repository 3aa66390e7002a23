"""Tests of draw files: CoOp's pickles and the JSON of the cross-modal adaptation authors."""

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
from features.index_table import Index
from pipeline.steps.draws import DrawnRows, draw_file, read_draw

NAMES = {0: "cat", 1: "dog"}
PATHS = tuple(f"{name}/image_{i}.jpg" for name in ("cat", "dog") for i in range(4))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """Two classes with four training images and one validation image each, and one test image."""
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


def drawn(index: Index, classes: dict[int, str] = NAMES) -> DrawnRows:
    return read_draw(draw_file("coop", "pets", 2, 1), index, classes, 2)


def put(value: object, name: str = "shot_2-seed_1.json") -> None:
    Path("draws/coop/pets", name).write_text(json.dumps(value), encoding="utf-8")


def data(*paths: str) -> dict[str, Any]:
    return {"data": [{"impath": f"./data/pets/{path}", "label": 9, "classname": "x"} for path in paths]}


def test_a_json_file_of_the_cross_modal_authors_is_read(index: Index) -> None:
    selected = [PATHS[i] for i in (3, 1, 4, 6)]
    put({"train": data(*selected) | {"indices": [3, 1, 4, 6]}, "val": data("dog/val.jpg", "cat/val.jpg")})
    train, validation = drawn(index)
    assert train.tolist() == [1, 3, 4, 6]
    assert validation.tolist() == [0, 1]


class Datum:
    """The fields that Dassl stores for an image."""

    def __init__(self, path: str) -> None:
        self._impath, self._label, self._domain, self._classname = path, 0, 0, "cat"


@pytest.fixture
def dassl(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that exists when the pickle is written and not when it is read."""
    module = types.ModuleType("dassl_like")
    module.Datum = Datum  # type: ignore[attr-defined]
    monkeypatch.setattr(Datum, "__module__", "dassl_like")
    monkeypatch.setitem(sys.modules, "dassl_like", module)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_coop_pickle_is_read_without_loading_it(
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


def test_reading_a_malicious_pickle_runs_nothing(index: Index) -> None:
    Path("draws/coop/pets/shot_2-seed_1.pkl").write_bytes(pickle.dumps({"train": [Evil()]}))
    with pytest.raises(InputError, match="0"):
        drawn(index)
    assert not Path("touched").exists()


def test_images_of_classes_outside_the_task_are_left_out(index: Index) -> None:
    put([PATHS[i] for i in (0, 1, 4, 5)])
    assert drawn(index, {1: "dog"})[0].tolist() == [4, 5]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([*PATHS[:2], *PATHS[4:7]], ["'dog'", "3"]),
        ([*PATHS[:2], "dog/other.jpg"], ["dog/other.jpg"]),
        ([*PATHS[:2], *PATHS[4:6], "cat/test.jpg"], ["1 ", "test"]),
    ],
)
def test_a_draw_of_another_data_set_or_split_is_rejected(index: Index, value: list[str], expected: list[str]) -> None:
    put(value)
    with pytest.raises(InputError) as caught:
        drawn(index)
    _, problem, *_ = str(caught.value).splitlines()
    assert all(text in problem for text in expected)


def test_the_error_for_a_missing_draw_names_its_folder(index: Index) -> None:
    with pytest.raises(InputError, match=r"shot_4-seed_3\.json.*pets.*draws/coop/pets"):
        draw_file("coop", "pets", 4, 3)


def test_the_error_names_a_damaged_pickle(index: Index) -> None:
    Path("draws/coop/pets/shot_2-seed_1.pkl").write_bytes(b"\xff\x00")
    with pytest.raises(InputError, match=r"shot_2-seed_1\.pkl"):
        drawn(index)
