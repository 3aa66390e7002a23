"""Tests of the comparison with published numbers: which rows are comparable, and averages over data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_up_scores import ROOT, enter, made_params

import features.datasets
from features.lookup import names
from pipeline.artifacts.scores import Cell, EncoderId, Scores, SeedScores, SplitScore, grid_runs
from pipeline.config import overrides, recipes
from pipeline.config.params import Params, parse_text
from pipeline.report import published
from pipeline.report.averages import averages
from pipeline.report.build import summarize
from pipeline.report.console import table_text
from pipeline.report.published import all_tables
from pipeline.report.summary import Table, build_tables
from pipeline.report.tables import markdown

ELEVEN = published.ELEVEN


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch)


def scores(dataset: str, run: str = "coop", **changes: Any) -> Scores:
    """Return scores of one seed; `accuracies` by evaluation split, `h` their harmonic mean."""
    method, _, generator = run.partition("+")
    accuracies: dict[str, float | None] = changes.pop("accuracies")
    eval_splits = {
        name: SplitScore(accuracy=a, n=10, classes=4, average="micro", reason="dash" if a is None else None)
        for name, a in accuracies.items()
    }
    h = changes.pop("h", None)
    values: dict[str, Any] = {
        "dataset": dataset,
        "trained_on": dataset,
        "task": changes["protocol"],
        "run": run,
        "method": method,
        "generator": generator or None,
        "shots": 16,
        "encoder": EncoderId(name="vit_b16", weights_sha256="0" * 64),
        "harmonic": None,
        "seeds": (SeedScores(seed=1, eval_splits=eval_splits, harmonic_mean=h),),
    }
    return Scores(**{**values, **changes})


def with_coop(**settings: Any) -> Params:
    """Return the parameters with other settings of CoOp."""
    params = made_params()
    return params.model_copy(update={"methods": {**params.methods, "coop": {**params.methods["coop"], **settings}}})


def cocoops() -> Params:
    """Return the parameters with CoOp's own recipe, in which CoCoOp's paper ran it."""
    return with_coop(recipe="coop")


def first_table(run_scores: list[Scores], params: Params | None = None) -> Table:
    return build_tables(params or made_params(), run_scores)[0]


def published_value(run_scores: list[Scores], eval_split: str, params: Params | None = None) -> float | None:
    return first_table(run_scores, params).rows[0].values[eval_split].published


def transfer(dataset: str, trained_on: str = "imagenet", run: str = "coop", **changes: Any) -> Scores:
    eval_split = "source" if dataset == trained_on else "target"
    values = {"protocol": "cross_dataset", "accuracies": {eval_split: 50.0}, "trained_on": trained_on}
    return scores(dataset, run, **{**values, **changes})


def test_every_published_data_set_has_a_reader() -> None:
    datasets = {row["dataset"] for table in all_tables() for row in table._rows} | {*ELEVEN}
    assert datasets - {"average"} <= {*names(features.datasets)}


def test_a_transfer_is_compared_only_if_it_trains_on_the_papers_source() -> None:
    assert published_value([transfer("dtd")], "target", cocoops()) == 41.92
    assert published_value([transfer("imagenet")], "source", cocoops()) == 71.51
    assert published_value([transfer("dtd", run="coop+ship")], "target") == 45.69
    assert published_value([transfer("dtd", trained_on="caltech101")], "target", cocoops()) is None
    assert published_value([transfer("dtd", trained_on="caltech101", run="zero_shot")], "target") == 44.39


def test_a_value_of_coop_stands_beside_a_run_with_its_recipe() -> None:
    for values in ({}, {"recipe": "coop", "context": 16}, {"recipe": "coop", "init": None}):
        assert published_value([pair("dtd", 80, 60)], "new", with_coop(**values)) is None
    assert published_value([pair("dtd", 80, 60)], "new", cocoops()) == 41.18
    table = first_table([pair("dtd", 80, 60, "zero_shot"), pair("dtd", 80, 60, "coop+ship")])
    assert table.published is not None
    cocoop, ship = table.published.source.split("; ")
    assert cocoop.startswith("CoCoOp")
    assert cocoop.endswith("Table 1 (zero_shot)")
    assert ship.startswith("SHIP")
    assert ship.endswith("Table 1 (coop+ship)")


def test_domain_generalization_is_compared_with_cocoops_table_3() -> None:
    assert published_value([transfer("imagenet_r", run="cocoop", protocol="domain_generalization")], "target") == 76.18


def gzsl(run: str) -> Scores:
    accuracies = {"unseen": 50.0, "seen": 50.0}
    fields = {"accuracies": accuracies, "harmonic": ("unseen", "seen"), "h": 50.0, "shots": None}
    return scores("cub200", run, protocol="generalized_zero_shot", **fields)


def test_generalized_zero_shot_is_compared_with_the_papers_rows_on_clip() -> None:
    assert published_value([gzsl("coop+ship")], "unseen") == 55.3
    assert published_value([gzsl("linear_probe+tf_vaegan")], "unseen") == 21.1


def test_published_systems_on_other_features_are_listed_without_comparison() -> None:
    table = first_table([gzsl("zero_shot")])
    row = {reference.name: reference for reference in table.references}["TCN"]
    assert (row.features, row.values["unseen"], row.values["harmonic_mean"]) == (
        "ResNet-101, expert attributes",
        52.6,
        52.3,
    )
    assert {"GCM-CF", "HSVA", "DUET", "MSDN"} <= {reference.name for reference in table.references}
    label = "TCN (published: ResNet-101, expert attributes)"
    assert f"| {label} |  | 52.60 |  |  | 52.00 |  |  | 52.30 |  |" in markdown(
        summarize(made_params(), [gzsl("zero_shot")], [], [])
    )
    assert label in table_text(table)
    assert not first_table([transfer("dtd")]).references


def pair(dataset: str, base: float, new: float | None, run: str = "coop") -> Scores:
    h = None if new is None else 2 * base * new / (base + new)
    accuracies = {"base": base, "new": new}
    return scores(dataset, run, protocol="base_to_new", accuracies=accuracies, harmonic=("base", "new"), h=h)


def test_the_average_weights_data_sets_equally_and_h_is_of_the_averages() -> None:
    (_, (mean,)) = next(averages([pair("dtd", 90, 20), pair("eurosat", 70, 60)]))
    (seed,) = mean.seeds
    assert [seed.eval_splits[name].accuracy for name in ("base", "new")] == [80, 40]
    assert seed.harmonic_mean == pytest.approx(2 * 80 * 40 / 120)  # of the two H it would be 48.7
    assert seed.eval_splits["base"].n == 20


def test_a_missing_accuracy_on_one_data_set_removes_the_average() -> None:
    (_, (mean,)) = next(averages([pair("dtd", 90, 20), pair("eurosat", 70, None)]))
    score = mean.seeds[0].eval_splits["new"]
    assert score.accuracy is None
    assert score.reason is not None
    assert "eurosat" in score.reason
    assert "dtd" not in score.reason


def test_the_average_sums_unreadable_images_and_counts_a_shared_source_once() -> None:
    lacks = [{"training": 3, "base": 1}, {"training": 4, "base": 2, "new": 5}]
    runs = [pair(name, 90, 20).model_copy(update={"unreadable": n}) for name, n in zip("ab", lacks, strict=True)]
    (_, (mean,)) = next(averages(runs))
    assert mean.unreadable == {"training": 7, "base": 3, "new": 5}
    shared = [s.model_copy(update={"trained_on": "c", "unreadable": {"training": 3, "base": 1}}) for s in runs]
    (_, (mean,)) = next(averages(shared))
    assert mean.unreadable == {"training": 3, "base": 2}


def test_a_single_data_set_has_no_average() -> None:
    assert not list(averages([pair("dtd", 90, 20)]))


def test_the_source_of_a_transfer_is_not_averaged() -> None:
    ((datasets, _),) = averages([transfer(name) for name in ("imagenet", "dtd", "eurosat")])
    assert datasets == ("dtd", "eurosat")


def test_published_averages_are_compared_only_over_the_papers_data_sets() -> None:
    assert published_value([pair(name, 80, 60) for name in ELEVEN], "new", cocoops()) == 63.22
    assert published_value([pair(name, 80, 60) for name in [*ELEVEN][:10]], "new", cocoops()) is None
    runs = [scores(name, protocol="class_incremental", accuracies={"all": 60.0}) for name in ELEVEN]
    assert published_value(runs, "all", cocoops()) == 65.55
    table = first_table([transfer(name) for name in ELEVEN], cocoops())
    assert (table.dataset, table.rows[0].values["target"].published) == ("average", 63.88)


def made_up(params: Params, cell: Cell) -> Scores:
    """Return made-up scores of a cell of a grid."""
    spec = params.tasks[cell.task]
    source = spec.get("source", cell.dataset)
    kinds: dict[str, tuple[str, ...]] = {
        "base_to_new": ("base", "new"),
        "generalized_zero_shot": ("unseen", "seen"),
        "cross_dataset": ("source" if source == cell.dataset else "target",),
        "domain_generalization": ("source" if source == cell.dataset else "target",),
    }
    names = kinds.get(spec["protocol"], ("all",))
    pair = {"harmonic": names, "h": 50.0} if len(names) == 2 else {}
    shots = None if cell.method == "zero_shot" else spec.get("shots")
    fields = {"protocol": spec["protocol"], "accuracies": dict.fromkeys(names, 50.0), "shots": shots}
    return scores(cell.dataset, cell.run, **fields, **pair, task=cell.task, trained_on=source)


# Recipe -> the runs that must have published values. Systems on other features are not runs. CoOp's Table 4 (words) and
# Table 5 (numbers of images) have no accuracies.
RECIPES = {
    "ship_table_1": {"zero_shot", "coop", "cocoop", "proda", "clip_adapter", "vpt", "coop+ship", "clip_adapter+ship"}
    | {"tip_adapter_f+ship"},
    "ship_table_2": {"zero_shot", "coop", "coop+ship"},
    "ship_table_3": {"zero_shot", "coop", "coop+ship", "linear_probe+f_vaegan", "linear_probe+tf_vaegan"},
    "ship_table_4": {"zero_shot", "coop", "coop+gan_scratch", "coop+vae_scratch", "coop+gan_clip", "coop+ship"},
    "ship_table_5": {"zero_shot", "coop+ship"},  # CoOp without SHIP has SHIP's recipe there, which no paper ran
    "ship_table_6": {"zero_shot", "coop+ship"},
    "cocoop_table_1": {"zero_shot", "coop", "cocoop"},
    "cocoop_table_2": {"zero_shot", "coop", "cocoop"},
    "cocoop_table_3": {"zero_shot", "coop", "cocoop"},
    "cocoop_table_4": {"zero_shot", "coop", "cocoop"},
    "cocoop_table_5": {"zero_shot", "coop", "cocoop"},
    "coop_table_1": {"zero_shot", "linear_probe", "coop"},
    "coop_table_2": {"zero_shot", "coop"},
    "coop_table_3": {"zero_shot", "coop"},
    "coop_table_6": {"zero_shot", "coop"},
    "coop_table_7": {"zero_shot", "coop"},
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_run_of_a_recipe_has_its_published_values(name: str) -> None:
    runs_with_values: set[str] = set()
    for run in recipes.read(ROOT / "papers" / f"{name}.yaml").assignments():
        params = parse_text(overrides.apply((ROOT / "params.yaml").read_text(encoding="utf-8"), run))
        built = build_tables(params, [made_up(params, cell) for cell in grid_runs(params)])
        notes = [table.published for table in built if table.published]
        assert all(note.same_encoder for note in notes), "published with the recipe's own encoder"
        assert notes
        runs_with_values |= {
            row.run for table in built for row in table.rows if any(v.published for v in row.values.values())
        }
    assert runs_with_values == RECIPES[name]


@pytest.mark.parametrize(
    ("name", "dataset", "run", "values"),
    [  # CoOp's Tables 1, 2, 3, 6 and 7, CoCoOp's Table 5: what the runs of the recipe have beside them, in order
        ("coop_table_1", "imagenet_r", "coop", [53.31, 54.34, 55.57]),
        ("coop_table_1", "imagenet_a", "linear_probe", [11.66] * 3),
        ("coop_table_2", "imagenet", "zero_shot", [58.18, 57.81]),
        ("coop_table_3", "average", "coop", [71.26, 71.51]),
        ("coop_table_6", "imagenetv2", "coop", [52.17, 53.02, 55.0, 55.45, 55.9, 56.21, 62.23, 62.66]),
        ("coop_table_6", "imagenet", "zero_shot", [58.18, 58.18, 58.72, 58.72, 59.88, 59.88, 66.73, 66.73]),
        ("coop_table_7", "imagenet", "zero_shot", [58.18, 57.81, 58.72, 60.49, 59.88, 62.01, 66.73, 67.31]),
        ("coop_table_7", "imagenet", "coop", [60.46, 64.39, 66.85, 70.13]),
        ("cocoop_table_5", "imagenet", "coop", [76.47, 76.16]),
        ("cocoop_table_3", "imagenet", "zero_shot", [66.73]),
        ("ship_table_5", "average", "coop+ship", [80.7, 80.03, 80.77, 80.59]),
        ("ship_table_6", "average", "coop+ship", [80.61, 80.61, 80.03, 80.54]),
        ("ship_table_5", "dtd", "coop+ship", [None, 74.88, None, None]),
        ("ship_table_1", "dtd", "coop", [None, 79.44]),  # SHIP's recipe, then CoCoOp's
        ("ship_table_1", "eurosat", "vpt", [67.97]),
    ],
)
def test_the_published_values_match_the_settings_of_a_recipes_runs(
    name: str, dataset: str, run: str, values: list[float | None]
) -> None:
    published_values = []
    for assigned in recipes.read(ROOT / "papers" / f"{name}.yaml").assignments():
        params = parse_text(overrides.apply((ROOT / "params.yaml").read_text(encoding="utf-8"), assigned))
        built = build_tables(params, [made_up(params, cell) for cell in grid_runs(params)])
        rows = [row for table in built if table.dataset == dataset for row in table.rows if row.run == run]
        published_values += [next(iter(row.values.values())).published for row in rows]
    assert published_values == values


def test_an_ablation_is_compared_with_the_run_with_its_settings() -> None:
    def published(**ship: Any) -> float | None:
        params = made_params()
        blocks = {**params.generators, "ship": {**params.generators["ship"], **ship}}
        params = params.model_copy(update={"generators": blocks})
        return published_value([pair(name, 80, 60, "coop+ship") for name in ELEVEN], "new", params)

    assert published() == 73.69
    assert published(prompt_length=8) == 72.05
    assert published(sequential=True) == 70.75
    assert published_value([pair(name, 80, 60, "coop+vae_scratch") for name in ELEVEN], "new") == 69.32
