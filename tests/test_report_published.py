"""Ours beside published numbers: which row may stand beside which, and the papers' averages over data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_up_scores import enter, made_params

import features.datasets
from features.lookup import names
from pipeline.params import Params
from pipeline.report.averages import averages
from pipeline.report.build import summarise
from pipeline.report.console import table_text
from pipeline.report.published import TABLES
from pipeline.report.summary import Table, tables
from pipeline.report.tables import markdown
from pipeline.scores import EncoderId, Judgement, Scores, SeedScores

ELEVEN = TABLES[0].averaged


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch)


def scores(dataset: str, run: str = "coop", **changes: Any) -> Scores:
    """One seed of one run; `accuracies` by judgement, H of them where there are two."""
    method, _, generator = run.partition("+")
    accuracies: dict[str, float | None] = changes.pop("accuracies")
    judgements = {
        name: Judgement(accuracy=a, n=10, classes=4, average="micro", reason="dash" if a is None else None)
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
        "seeds": (SeedScores(seed=1, judgements=judgements, harmonic_mean=h),),
    }
    return Scores(**{**values, **changes})


def only(found: list[Scores], params: Params | None = None) -> Table:
    return tables(params or made_params(), found)[0]


def beside(found: list[Scores], judgement: str, params: Params | None = None) -> float | None:
    return only(found, params).rows[0].values[judgement].published


def transfer(dataset: str, trained_on: str = "imagenet", run: str = "coop", **changes: Any) -> Scores:
    judgement = "source" if dataset == trained_on else "target"
    values = {"protocol": "cross_dataset", "accuracies": {judgement: 50.0}, "trained_on": trained_on}
    return scores(dataset, run, **{**values, **changes})


def test_every_published_data_set_has_a_reader() -> None:
    found = {row["dataset"] for table in TABLES for row in table._rows} | {*ELEVEN}
    assert found - {"average"} <= {*names(features.datasets)}


def test_a_transfer_is_compared_only_if_it_learns_from_the_papers_source() -> None:
    assert beside([transfer("dtd")], "target") == 41.92
    assert beside([transfer("imagenet")], "source") == 71.51
    assert beside([transfer("dtd", run="coop+ship")], "target") == 45.69
    assert beside([transfer("dtd", trained_on="caltech101")], "target") is None
    assert beside([transfer("dtd", trained_on="caltech101", run="zero_shot")], "target") == 44.39


def test_domain_generalization_stands_beside_cocoops_table_3() -> None:
    assert beside([transfer("imagenet_r", run="cocoop", protocol="domain_generalization")], "target") == 76.18


def gzsl(run: str) -> Scores:
    accuracies = {"unseen": 50.0, "seen": 50.0}
    found = {"accuracies": accuracies, "harmonic": ("unseen", "seen"), "h": 50.0, "shots": None}
    return scores("cub200", run, protocol="generalized_zero_shot", **found)


def test_generalized_zero_shot_has_the_papers_rows_on_clip_beside_ours() -> None:
    assert beside([gzsl("coop+ship")], "unseen") == 55.3
    assert beside([gzsl("linear_probe+tf_vaegan")], "unseen") == 21.1


def test_systems_on_other_features_stand_in_the_table_as_published() -> None:
    table = only([gzsl("zero_shot")])
    row = {reference.name: reference for reference in table.references}["TCN"]
    assert (row.features, row.values["unseen"], row.values["harmonic_mean"]) == (
        "ResNet-101, expert attributes",
        52.6,
        52.3,
    )
    assert {"GCM-CF", "HSVA", "DUET", "MSDN"} <= {reference.name for reference in table.references}
    said = "TCN (published: ResNet-101, expert attributes)"
    assert f"| {said} |  | 52.60 |  |  | 52.00 |  |  | 52.30 |  |" in markdown(
        summarise(made_params(), [gzsl("zero_shot")], [])
    )
    assert said in table_text(table)
    assert not only([transfer("dtd")]).references


def pair(dataset: str, base: float, new: float | None, run: str = "coop") -> Scores:
    h = None if new is None else 2 * base * new / (base + new)
    found = {"base": base, "new": new}
    return scores(dataset, run, protocol="base_to_new", accuracies=found, harmonic=("base", "new"), h=h)


def test_the_average_is_of_each_data_set_the_same_and_h_is_of_the_averages() -> None:
    (_, (mean,)) = next(averages([pair("dtd", 90, 20), pair("eurosat", 70, 60)]))
    (seed,) = mean.seeds
    assert [seed.judgements[name].accuracy for name in ("base", "new")] == [80, 40]
    assert seed.harmonic_mean == pytest.approx(2 * 80 * 40 / 120)  # of the two H it would be 48.7
    assert seed.judgements["base"].n == 20


def test_a_dash_on_one_data_set_is_a_dash_on_the_average() -> None:
    (_, (mean,)) = next(averages([pair("dtd", 90, 20), pair("eurosat", 70, None)]))
    judged = mean.seeds[0].judgements["new"]
    assert (judged.accuracy, judged.reason) == (None, "no mean without eurosat")


def test_one_data_set_has_no_average() -> None:
    assert not list(averages([pair("dtd", 90, 20)]))


def test_the_source_of_a_transfer_is_no_part_of_its_average() -> None:
    ((datasets, _),) = averages([transfer(name) for name in ("imagenet", "dtd", "eurosat")])
    assert datasets == ("dtd", "eurosat")


def test_published_averages_are_of_the_papers_data_sets() -> None:
    assert beside([pair(name, 80, 60) for name in ELEVEN], "new") == 63.22
    assert beside([pair(name, 80, 60) for name in [*ELEVEN][:10]], "new") is None
    found = [scores(name, protocol="class_incremental", accuracies={"all": 60.0}) for name in ELEVEN]
    assert beside(found, "all") == 65.55
    table = only([transfer(name) for name in ELEVEN])
    assert (table.dataset, table.rows[0].values["target"].published) == ("average", 63.88)


def test_an_ablation_stands_beside_the_run_with_its_settings() -> None:
    def published(**ship: Any) -> float | None:
        params = made_params()
        blocks = {**params.generators, "ship": {**params.generators["ship"], **ship}}
        params = params.model_copy(update={"generators": blocks})
        return beside([pair(name, 80, 60, "coop+ship") for name in ELEVEN], "new", params)

    assert published() == 73.69
    assert published(prompt_length=8) == 72.05
    assert published(sequential=True) == 70.75
    assert beside([pair(name, 80, 60, "coop+vae_scratch") for name in ELEVEN], "new") == 69.32
