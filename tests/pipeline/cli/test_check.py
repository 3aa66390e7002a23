"""`shipyard check`: mistakes in the blocks of data sets, tasks, generators and methods are found before any work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from project_root import ROOT
from ruamel.yaml import YAML

from features.errors import InputError
from pipeline.cli import check as checking
from pipeline.config import params
from pipeline.config.params import Params

SHIPPED = (ROOT / "params.yaml").read_text(encoding="utf-8")


def with_values(changes: Mapping[str, Any]) -> Params:
    """Return the shipped parameters with some dotted keys changed or added."""
    values = YAML(typ="safe", pure=True).load(SHIPPED)
    for key, value in changes.items():
        *path, last = key.split(".")
        block = values
        for part in path:
            block = block[part]
        block[last] = value
    return Params.model_validate(values)


def test_the_shipped_file_is_valid() -> None:
    checking.check(params.parse_text(SHIPPED))


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (
            {"data.sets.twemoji": {"reader": "twemojii"}},
            ["data.sets.twemoji.reader", "'twemojii'", "features/datasets", "'twemoji'?"],
        ),
        ({"data.sets.twemoji": {}}, ["data.sets.twemoji.reader", "features/datasets"]),
        ({"data.sets.twemoji": {"reader": 3}}, ["data.sets.twemoji.reader", " 3 "]),
        ({"data.sets.twemoji": {"reader": "base"}}, ["data.sets.twemoji.reader", "'base'", "features/datasets"]),
        ({"data.sets.twemoji": {"reader": "twemoji", "pth": "x"}}, ["data.sets.twemoji", "pth:", "'path'?"]),
        ({"data.sets.twemoji": {"reader": "twemoji", "path": 3}}, ["data.sets.twemoji", "path:", " 3"]),
        (
            {"tasks.base_to_new": {"protocol": "base_new"}},
            ["tasks.base_to_new.protocol", "'base_new'", "pipeline/protocols", "'base_to_new'?"],
        ),
        ({"tasks.base_to_new": {"shots": 16}}, ["tasks.base_to_new.protocol", "pipeline/protocols"]),
        ({"tasks.base_to_new.shots": 0}, ["tasks.base_to_new", "shots:", " 0"]),
        ({"tasks.base_to_new.shots": "all"}, ["tasks.base_to_new", "shots:", " 'all'"]),
        ({"tasks.base_to_new.shot": 4}, ["tasks.base_to_new", "shot:", "'shots'?"]),
        ({"generators.ship.epoch": 4}, ["generators.ship", "epoch:", "'epochs'?"]),
        ({"generators.ship.reconstruction": "max"}, ["generators.ship", "reconstruction:", " 'max'"]),
        ({"generators.ship.kl_weight": float("nan")}, ["generators.ship", "kl_weight:", " nan"]),
        ({"generators.ship.learning_rate": "0.001"}, ["generators.ship", "learning_rate:", " '0.001'"]),
        (
            {"generators.shop": {}, "grid.generators": ["shop"]},
            ["'shop'", "pipeline/generators"],
        ),
        ({"methods.coop.recipe": "cocoop"}, ["methods.coop", "recipe:", " 'cocoop'"]),
        ({"methods.coop.epochs": 2.5}, ["methods.coop", "epochs:", " 2.5"]),
        ({"methods.zero_shot.epochs": 2}, ["methods.zero_shot", "epochs:", "templates"]),
        ({"methods.clip_adapter.ratio": 1.5}, ["methods.clip_adapter", "ratio:", " 1.5"]),
        (
            {"methods.koop": {}, "grid.methods": ["zero_shot", "koop"]},
            ["'koop'", "pipeline/methods"],
        ),
        ({"grid.methods": ["zero_shot", "plot"]}, ["grid.methods", "plot", "extract.patch_tokens: true"]),
        ({"grid.methods": ["coop"]}, ["grid.methods", "zero_shot"]),
        (
            {"grid.synthetic_methods": ["zero_shot"]},
            ["grid.synthetic_methods", "'zero_shot'", "coop, clip_adapter"],
        ),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) else "",
)
def test_a_mistake_is_reported_with_its_key_and_value(changes: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        checking.check(with_values(changes))
    message = str(caught.value)
    assert [part for part in parts if part not in message] == []
    assert "(1 problem)" in str(caught.value).splitlines()[0]


def test_mistakes_of_all_blocks_at_once() -> None:
    changes = {
        "data.sets.twemoji": {"reader": "twemojii"},
        "tasks.base_to_new.shots": 0,
        "generators.ship.epochs": -1,
        "methods.coop.context": 0,
        "methods.clip_adapter.reduction": "x",
        "grid.synthetic_methods": ["zero_shot"],
    }
    with pytest.raises(InputError, match=r"^params\.yaml .*\(6 problems\)") as caught:
        checking.check(with_values(changes))
    for part in ("reader", "shots", "epochs", "context", "reduction", "zero_shot"):
        assert part in str(caught.value)


def test_a_block_outside_the_grid_is_not_checked() -> None:
    checking.check(with_values({"methods.later": {"anything": 1}, "data.sets.later": {"reader": "nowhere"}}))


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("caltech101", ["tasks.cross_dataset", "'caltech101'", "grid.datasets"]),
        ("caltech", ["tasks.cross_dataset", "'caltech'", "`data.sets`", "'caltech101'?"]),
    ],
)
def test_a_missing_source_data_set_is_reported(source: str, parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        checking.check(with_values({"grid.tasks": ["cross_dataset"], "tasks.cross_dataset.source": source}))
    message = str(caught.value)
    assert [part for part in parts if part not in message] == []


@pytest.mark.parametrize("task", ["few_shot", "domain_generalization"])
def test_generators_need_a_task_with_unseen_classes(task: str) -> None:
    changes = {"grid.tasks": [task], "tasks.domain_generalization.source": "twemoji"}
    with pytest.raises(InputError, match=rf"tasks\.{task}: .*grid\.generators.*'ship'"):
        checking.check(with_values(changes))
    checking.check(with_values({**changes, "grid.generators": []}))


def test_a_value_for_one_data_set_is_checked_if_the_grid_has_the_data_set() -> None:
    changes = {"generators.ship.epochs": {"default": 50, "caltech101": 0}}
    checking.check(with_values(changes))
    with pytest.raises(InputError, match=r"epochs: .*\b0\b"):
        checking.check(with_values({**changes, "grid.datasets": ["twemoji", "caltech101"]}))


def test_a_task_of_select_must_be_run_and_classify_among_all_classes() -> None:
    valid = {"tasks.mine": {"protocol": "own_images"}, "grid.tasks": ["mine"], "grid.select": ["mine"]}
    checking.check(with_values(valid))
    invalid = {**valid, "grid.tasks": ["base_to_new"], "grid.select": ["mine", "base_to_new"]}
    with pytest.raises(InputError, match="2 problems") as caught:
        checking.check(with_values(invalid))
    for part in ("grid.select: 'mine' is not in grid.tasks", "grid.select: 'base_to_new' has the protocol"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "folder", [".", "index", "vit_b16", "vit_b16/features", "vit_b16/fitted/d", "vit_b16/fitted/d/t"]
)
@pytest.mark.parametrize("linked", [True, False])
def test_a_folder_of_outputs_that_is_a_link_out_of_the_project_is_refused_before_a_run(
    folder: str, linked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    path = project / "artifacts" / folder
    path.parent.mkdir(parents=True)
    (elsewhere if linked else path).mkdir()
    if linked:
        path.symlink_to(elsewhere)
    monkeypatch.chdir(project)
    found = list(checking.unusable_folders(with_values({"grid.encoder": "vit_b16"})))
    assert len(found) == linked
    assert all(str(elsewhere) in line for line in found)


def test_outputs_and_links_within_the_project_are_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    for path in (tmp_path / "store", project / "big", project / "artifacts/liteclip/features"):
        path.mkdir(parents=True)
    (project / "artifacts/liteclip/features/twemoji.zarr").symlink_to(tmp_path / "store")
    (project / "artifacts/index").symlink_to("../big")
    monkeypatch.chdir(project)
    assert not list(checking.unusable_folders(with_values({})))


@pytest.mark.parametrize("target", [None, "nowhere"])
def test_a_file_or_a_broken_link_where_outputs_go_is_refused_before_a_run(
    target: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "artifacts"
    path.symlink_to(tmp_path / target) if target else path.write_text("mine", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"artifacts is not a folder"):
        checking.check_all([with_values({})])
