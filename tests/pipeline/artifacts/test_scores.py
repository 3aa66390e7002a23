"""Tests of score files: round trips, and errors for damaged files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from project_root import ROOT

from features.errors import InputError
from features.formats.seal import write_sealed_json
from pipeline.artifacts.paths import run_name
from pipeline.artifacts.scores import (
    Scores,
    grid_runs,
    read_scores,
    score_path,
    write_scores,
)
from pipeline.config.params import Params, load


def eval_split(accuracy: float | None, reason: str | None = None) -> dict[str, Any]:
    return {"accuracy": accuracy, "n": 40, "classes": 4, "average": "micro", "reason": reason}


def values(**changed: Any) -> dict[str, Any]:
    seeds = [
        {"seed": 1, "eval_splits": {"base": eval_split(60.0), "new": eval_split(40.0)}, "harmonic_mean": 48.0},
        {"seed": 2, "eval_splits": {"base": eval_split(50.0), "new": eval_split(50.0)}, "harmonic_mean": 50.0},
    ]
    return {
        "dataset": "pets",
        "trained_on": "pets",
        "task": "base_to_new",
        "protocol": "base_to_new",
        "run": "coop+ship",
        "method": "coop",
        "generator": "ship",
        "shots": 16,
        "encoder": {"name": "liteclip", "weights_sha256": "0" * 64},
        "harmonic": ["base", "new"],
        "seeds": seeds,
    } | changed


def put(folder: Path, content: Any) -> Path:
    path = folder / "pets" / "base_to_new" / "coop+ship.json"
    write_sealed_json(path, content)
    return path


@pytest.fixture
def params() -> Params:
    return load(ROOT / "params.yaml")


def test_scores_are_read_back_and_written_with_the_same_bytes(tmp_path: Path) -> None:
    scores = Scores.model_validate(values())
    path = tmp_path / "pets" / "base_to_new" / "coop+ship.json"
    write_scores(path, scores)
    first = path.read_bytes()
    assert read_scores(path) == scores
    write_scores(path, read_scores(path))
    assert path.read_bytes() == first


def test_a_missing_accuracy_is_read_with_its_reason(tmp_path: Path) -> None:
    content = values()
    content["seeds"] = [
        {"seed": 1, "eval_splits": {"base": eval_split(60.0), "new": eval_split(None, "cannot score a class by name")}}
    ]
    scores = read_scores(put(tmp_path, content))
    assert scores.seeds[0].accuracy("new") is None
    assert scores.seeds[0].accuracy("harmonic_mean") is None
    assert scores.seeds[0].eval_splits["new"].reason == "cannot score a class by name"


def test_eval_splits_are_in_the_order_of_h() -> None:
    content = values(harmonic=["new", "base"])
    for seed in content["seeds"]:
        seed["eval_splits"]["all"] = eval_split(1.0)
    assert Scores.model_validate(content).eval_splits == ("new", "base", "all", "harmonic_mean")
    assert Scores.model_validate(content | {"harmonic": None}).eval_splits == ("all", "base", "new")


def seeds_with(**changed: Any) -> list[dict[str, Any]]:
    first, second = values()["seeds"]
    return [first | changed, second]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (values(shots=0), r"shots.*\b0\b"),
        (values(methood="coop"), "methood.*'method'"),
        (values(run="coop"), r"'coop'.*'coop\+ship'"),
        (values(dataset="flowers"), r"flowers/base_to_new/coop\+ship\.json"),
        (values(harmonic=["base", "unseen"]), r"\['base', 'unseen'\].*\['base', 'new'\]"),
        (values(harmonic=None), "harmonic_mean: 48.0.*None"),
        (values(seeds=[]), "seeds"),
        (values(seeds=seeds_with(seed=2)), "seeds: 2"),
        (values(seeds=seeds_with(harmonic_mean=49.0)), "seed 1: harmonic_mean: 49.0.*48.0"),
        (values(seeds=seeds_with(eval_splits={"base": eval_split(1.0)})), r"harmonic: .*\['base'\]"),
        (
            values(
                seeds=seeds_with(eval_splits={"base": eval_split(None), "new": eval_split(1.0)}, harmonic_mean=None)
            ),
            r"seed 1: eval_splits\.base",
        ),
        (
            values(seeds=seeds_with(eval_splits={"harmonic_mean": eval_split(1.0)}), harmonic=None),
            "eval_splits: 'harmonic_mean'",
        ),
    ],
)
def test_the_error_names_what_is_damaged(tmp_path: Path, content: Any, expected: str) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        read_scores(put(tmp_path, content))
    assert "pets/base_to_new/coop+ship.json" in str(caught.value)
    assert "dvc repro" in str(caught.value)


def test_scores_that_contradict_themselves_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'ship\+coop'.*'coop\+ship'"):
        write_scores(tmp_path / "x.json", Scores.model_validate(values(run="ship+coop")))
    assert not list(tmp_path.iterdir())


def test_run_names_and_paths(params: Params) -> None:
    assert run_name("coop", None) == "coop"
    assert run_name("coop", "ship") == "coop+ship"
    cells = {cell.run: cell for cell in grid_runs(params)}
    assert score_path(Path("artifacts/x"), cells["coop+ship"]).as_posix() == (
        "artifacts/x/scores/twemoji/base_to_new/coop+ship.json"
    )
    assert cells["coop"].stage == "evaluate"
    assert cells["coop+ship"].stage == "evaluate_synthetic"


def test_the_cells_of_the_grid_are_in_display_order(params: Params) -> None:
    grid = params.grid.model_copy(
        update={
            "datasets": ["b", "a"],
            "tasks": ["t"],
            "methods": ["zero_shot", "coop"],
            "generators": ["ship", "gan"],
            "synthetic_methods": ["tip_adapter_f", "coop"],
        }
    )
    cells = grid_runs(params.model_copy(update={"grid": grid}))
    runs = ["zero_shot", "coop", "coop+ship", "coop+gan", "tip_adapter_f+ship", "tip_adapter_f+gan"]
    assert [cell.run for cell in cells] == runs * 2
    assert [cell.dataset for cell in cells] == ["b"] * 6 + ["a"] * 6
    assert cells[2] == ("b", "t", "coop", "ship")
