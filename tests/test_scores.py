"""Score files: what goes in comes out, and damage is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from features.errors import InputError
from pipeline.artifacts.paths import run_name
from pipeline.artifacts.scores import (
    Scores,
    grid_runs,
    read_scores,
    score_path,
    write_scores,
)
from pipeline.config.params import Params, load

ROOT = Path(__file__).parents[1]


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
    path.parent.mkdir(parents=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def params() -> Params:
    return load(ROOT / "params.yaml")


def test_what_is_written_is_read_and_the_bytes_repeat(tmp_path: Path) -> None:
    scores = Scores.model_validate(values())
    path = tmp_path / "pets" / "base_to_new" / "coop+ship.json"
    write_scores(path, scores)
    first = path.read_bytes()
    assert read_scores(path) == scores
    write_scores(path, read_scores(path))
    assert path.read_bytes() == first


def test_a_dash_is_read_with_its_reason(tmp_path: Path) -> None:
    content = values()
    content["seeds"] = [
        {"seed": 1, "eval_splits": {"base": eval_split(60.0), "new": eval_split(None, "cannot score a class by name")}}
    ]
    scores = read_scores(put(tmp_path, content))
    assert scores.seeds[0].accuracy("new") is None
    assert scores.seeds[0].accuracy("harmonic_mean") is None
    assert scores.seeds[0].eval_splits["new"].reason == "cannot score a class by name"


def test_judgements_stand_in_the_order_of_h() -> None:
    content = values(harmonic=["new", "base"])
    for seed in content["seeds"]:
        seed["eval_splits"]["all"] = eval_split(1.0)
    assert Scores.model_validate(content).eval_splits == ("new", "base", "all", "harmonic_mean")
    assert Scores.model_validate(content | {"harmonic": None}).eval_splits == ("all", "base", "new")


def seeds_with(**changed: Any) -> list[dict[str, Any]]:
    first, second = values()["seeds"]
    return [first | changed, second]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be used"),
        (values(shots=0), "shots: 0 cannot be used"),
        (values(methood="coop"), "methood: unknown key; did you mean 'method'"),
        (values(run="coop"), "run is 'coop', but its parts make 'coop\\+ship'"),
        (values(dataset="flowers"), "holds the scores of flowers/base_to_new/coop\\+ship.json"),
        (values(harmonic=["base", "unseen"]), r"H is taken of \['base', 'unseen'\]"),
        (values(harmonic=None), "harmonic_mean is 48.0, but its eval_splits make None"),
        (values(seeds=[]), "seeds"),
        (values(seeds=seeds_with(seed=2)), "seed 2 stands twice"),
        (values(seeds=seeds_with(harmonic_mean=49.0)), "seed 1: harmonic_mean is 49.0, but its eval_splits make 48.0"),
        (values(seeds=seeds_with(eval_splits={"base": eval_split(1.0)})), "H is taken of"),
        (
            values(
                seeds=seeds_with(eval_splits={"base": eval_split(None), "new": eval_split(1.0)}, harmonic_mean=None)
            ),
            "either an accuracy or a reason",
        ),
        (
            values(seeds=seeds_with(eval_splits={"harmonic_mean": eval_split(1.0)}), harmonic=None),
            "no eval_split may be called",
        ),
    ],
)
def test_damage_is_named(tmp_path: Path, content: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        read_scores(put(tmp_path, content))
    assert "pets/base_to_new/coop+ship.json" in str(caught.value)
    assert "dvc repro" in str(caught.value)


def test_scores_that_contradict_themselves_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its parts make"):
        write_scores(tmp_path / "x.json", Scores.model_validate(values(run="ship+coop")))
    assert not list(tmp_path.iterdir())


def test_run_names_and_places(params: Params) -> None:
    assert run_name("coop", None) == "coop"
    assert run_name("coop", "ship") == "coop+ship"
    cells = {cell.run: cell for cell in grid_runs(params)}
    assert score_path(Path("artifacts/x"), cells["coop+ship"]).as_posix() == (
        "artifacts/x/scores/twemoji/base_to_new/coop+ship.json"
    )
    assert cells["coop"].stage == "evaluate"
    assert cells["coop+ship"].stage == "evaluate_synthetic"


def test_the_grid_is_crossed_in_display_order(params: Params) -> None:
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
