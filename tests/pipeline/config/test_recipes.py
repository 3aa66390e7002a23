"""Recipes: each can be run unchanged, and those of the papers' tables have the settings of the authors' code."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import TREES
from project_root import ROOT

import pipeline.methods
import pipeline.protocols
from features.datasets.base import SPLITS, reader_from
from features.errors import InputError
from features.lookup import find, names
from features.settings import parse
from pipeline.cli.check import check
from pipeline.config import overrides, params, recipes
from pipeline.config.params import Params
from pipeline.protocols.base import ClassCounts, Protocol, Transfer

SHIPPED = params.read(ROOT / "params.yaml")
PAPERS = sorted((ROOT / "papers").glob("*.yaml"))
RESULTS = sorted((ROOT / "docs/results").glob("*.yaml"))


@cache  # parsing params.yaml takes most of the time of these tests
def runs(path: Path) -> list[Params]:
    """Return the parameters of each run of a recipe."""
    return [params.parse_text(overrides.apply(SHIPPED, run)) for run in recipes.read(path).assignments()]


def test_every_table_of_the_three_papers_has_a_recipe() -> None:
    tables = {"ship": 6, "cocoop": 5, "coop": 7}
    expected = {f"{p}_table_{i}" for p, n in tables.items() for i in range(1, n + 1)}
    others = {"heads_few_shot", "plot_few_shot", "later_base_to_new", "coop_figure_3", "cocoop_figure_4"}
    assert {path.stem for path in PAPERS} == expected | others


def test_every_method_has_a_recipe_with_its_authors_settings() -> None:
    """But `proda`, whose authors' code is not to be had, and `clip_adapter`, whose code has no settings."""
    run = {name for path in PAPERS for run_params in runs(path) for name in run_params.grid.methods}
    assert run == set(names(pipeline.methods))


def test_the_methods_of_dassl_take_its_crops_in_every_recipe() -> None:
    """SHIP's code crops otherwise but on ImageNet; Tip-Adapter's, GDA's and LP++'s always do."""
    dassl = {"cocoop", "kgcoop", "tcp", "vpt", "taskres", "clap"}
    for run_params in (run_params for path in PAPERS for run_params in runs(path)):
        for dataset in run_params.grid.datasets:
            for name in run_params.grid.methods:
                values = block(run_params, "methods", name, dataset)
                coop = name == "coop" and (values["recipe"] == "coop" or dataset == "imagenet")
                expected = "dassl" if name in dassl or coop else None
                assert values.get("view_family") == expected, (name, dataset)
            for name in run_params.grid.generators:
                family = block(run_params, "generators", name, dataset)["view_family"]
                assert family == ("dassl" if dataset == "imagenet" else None)
        assert run_params.extract.view_families in ({}, {"dassl": [0.08, 1.0]})
        assert run_params.extract.view_scale == [0.5, 1.0]


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_every_run_of_a_recipe_passes_the_check(path: Path) -> None:
    first, *others = runs(path)
    check(first)
    for other in others:
        check(other)
    assert path.stem.replace("_", " ").lower() in recipes.read(path).title.lower()
    assert path.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_every_recipe_of_the_results_passes_the_check(path: Path) -> None:
    for run_params in runs(path):
        check(run_params)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return a folder with a miniature of every data set, and the options that so few images need."""
    root = tmp_path_factory.mktemp("data")
    return root, {name: make(root) for name, make in TREES.items()}


def class_counts(run_params: Params, dataset: str, root: Path, options: dict[str, Any]) -> ClassCounts:
    """Read the miniature of a data set from the folder that `params.yaml` names."""
    spec = {**run_params.data.sets[dataset], **options.get(dataset, {})}
    listing = reader_from(spec, dataset).read(root)
    ids = {split: [image.class_id for image in listing.images if image.split == split] for split in SPLITS}
    return ClassCounts(listing.classes, {s: np.bincount(ids[s], minlength=len(listing.classes)) for s in SPLITS})


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_every_task_of_a_recipe_can_be_planned_on_miniatures_of_its_data(
    path: Path, data_root: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a folder without an index
    root, options = data_root
    for run_params in runs(path):
        counts = {name: class_counts(run_params, name, root, options) for name in run_params.grid.datasets}
        for task in run_params.grid.tasks:
            for name in run_params.grid.datasets:
                values = block(run_params, "tasks", task, name)
                protocol = parse(find(pipeline.protocols, values["protocol"], Protocol), values, task)
                plan = protocol.plan(name, counts)
                evaluated = [(eval_split.split, ref) for eval_split in plan.eval_splits for ref in eval_split.classes]
                assert any(counts[ref.dataset].counts[split][ref.class_id] for split, ref in evaluated), (
                    "no test images"
                )
                on_itself = isinstance(protocol, Transfer) and protocol.source == name
                assert bool(plan.unseen) == (protocol.has_unseen and not on_itself)


def block(run_params: Params, kind: Any, name: str, dataset: str) -> dict[str, Any]:
    return run_params.block(kind, name, dataset)[0]


def test_ship_table_1_has_the_settings_of_the_authors_code() -> None:
    run_params, plain = runs(ROOT / "papers/ship_table_1.yaml")
    assert len(run_params.grid.datasets) == 11
    assert run_params.tasks["base_to_new"]["shots"] == 16
    ship = {dataset: block(run_params, "generators", "ship", dataset) for dataset in ("dtd", "imagenet")}
    assert [(s["epochs"], s["encoder_width"]) for s in ship.values()] == [(50, 2048), (10, 4096)]
    assert (ship["dtd"]["prompt_length"], ship["dtd"]["learning_rate"], ship["dtd"]["batch"]) == (4, 0.001, 256)
    assert (ship["dtd"]["reconstruction"], ship["dtd"]["kl_weight"]) == ("sum", 1.0)
    vpt = {dataset: block(run_params, "methods", "vpt", dataset) for dataset in ("eurosat", "ucf101")}
    assert [(v["samples"], v["epochs"]) for v in vpt.values()] == [(20, 60), (5, 20)]
    tip = block(run_params, "methods", "tip_adapter_f", "flowers102")
    assert (tip["beta_max"], tip["alpha_max"], tip["alpha"]) == (50, 50, 10)
    assert block(run_params, "methods", "tip_adapter_f", "eurosat")["epochs"] == 100
    coop = block(plain, "methods", "coop", "imagenet")
    assert (coop["recipe"], coop["epochs"], coop["context"], coop["init"]) == ("coop", 50, 4, "a photo of a")


def test_the_heads_have_the_settings_of_their_authors_and_say_where_they_search_on_test() -> None:
    plain, lp = runs(ROOT / "papers/heads_few_shot.yaml")
    for name in ("tip_adapter", "tip_adapter_f"):
        grids = {
            d: block(plain, "methods", name, d) for d in ("caltech101", "dtd", "flowers102", "oxford_pets", "sun397")
        }
        assert [(g["alpha_max"], g["beta_max"]) for g in grids.values()] == [
            *((5, 12), (13, 13), (50, 50), (3, 7), (10, 12))
        ]
        assert [g["alpha"] for g in grids.values()] == [3, 2, 10, 1.17, 1.17]
        assert not grids["dtd"]["centre_crop"]
    assert block(plain, "methods", "gda", "imagenet")["templates"] == "imagenet_7"
    assert block(plain, "methods", "clap", "imagenet")["templates"] == "imagenet_8"
    taskres = {dataset: block(plain, "methods", "taskres", dataset) for dataset in ("imagenet", "flowers102")}
    assert [(t["alpha"], t["learning_rate"]) for t in taskres.values()] == [(0.5, 0.0002), (1.0, 0.002)]
    for run_params, split in ((plain, "test"), (lp, "train")):
        for task in run_params.grid.tasks:
            chosen = {name: block(run_params, "tasks", task, name)["validation_from"] for name in ("dtd", "imagenet")}
            assert chosen == {"dtd": "val", "imagenet": split}


def test_cocoop_table_3_has_the_settings_of_the_paper() -> None:
    (run_params,) = runs(ROOT / "papers/cocoop_table_3.yaml")
    cocoop = block(run_params, "methods", "cocoop", "imagenet")
    assert (cocoop["batch"], cocoop["epochs"], cocoop["context"], cocoop["reduction"]) == (1, 10, 4, 16)
    assert run_params.tasks["domain_generalization"] == {
        "protocol": "domain_generalization",
        "source": "imagenet",
        "shots": 16,
    }


def test_coop_table_6_has_four_encoders_and_random_contexts_of_two_lengths() -> None:
    run_params = runs(ROOT / "papers/coop_table_6.yaml")
    coop = [(run.grid.encoder, block(run, "methods", "coop", "imagenet")) for run in run_params]
    assert {(encoder, c["context"]) for encoder, c in coop} == {
        (encoder, m) for encoder in ("rn50", "rn101", "vit_b32", "vit_b16") for m in (16, 4)
    }
    assert {(c["init"], c["recipe"], c["epochs"]) for _, c in coop} == {(None, "coop", 50)}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("title: x\n", ["settings:"]),
        ("title: x\nsettings: {}\nrun: []\n", ["run:", "'runs'?"]),
        ("title: x\nsettings: {}\nruns: []\n", ["runs:", "[]"]),
        ("title: [", ["YAML"]),
    ],
)
def test_an_invalid_recipe_is_an_error(tmp_path: Path, text: str, parts: list[str]) -> None:
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        recipes.read(tmp_path / "mine.yaml")
    message = str(caught.value)
    assert "mine.yaml" in message
    assert [part for part in parts if part not in message] == []


def test_a_missing_recipe_gets_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"ship_tabel_1\.yaml .*'.*ship_table_1\.yaml'"):
        recipes.read(ROOT / "papers/ship_tabel_1.yaml")


def test_settings_that_an_earlier_recipe_left_are_reported() -> None:
    """Otherwise eight shots of an earlier recipe would silently go into the table that is run next."""
    recipe = recipes.read(ROOT / "papers" / "ship_table_1.yaml")
    assert recipe.left_over(SHIPPED, SHIPPED) == []
    assignments = ["tasks.base_to_new.shots=8", "data.root=/elsewhere", "compute.workers=1", "grid.methods=[gda]"]
    changed = overrides.apply(SHIPPED, assignments)
    assert recipe.left_over(changed, SHIPPED) == ["tasks.base_to_new.shots: 16 -> 8"]
    own = overrides.insert(SHIPPED, "tasks", "birds", {"protocol": "own_images"})
    assert recipe.left_over(own, SHIPPED) == []


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("ship_table_1.yaml", "ship_table_1"),
        ("v1.2.yaml", "v1.2"),
        ("my table (two).yaml", "my-table-two"),
        ("-a..b~c:d@{e.yaml", "a-b-c-d-e"),
        ("---.yaml", "recipe"),
    ],
)
def test_an_experiment_of_any_recipe_has_a_name_that_git_allows(file: str, name: str) -> None:
    assert recipes.experiment(Path("papers") / file) == name
    assert subprocess.run(["git", "check-ref-format", f"refs/exps/{name}-1"], check=False).returncode == 0
