"""What `shipyard run` refuses before any work: every mistake in the blocks that a data set, a method ... owns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from features.errors import InputError
from pipeline.cli import check as checking
from pipeline.config import params
from pipeline.config.params import Params

SHIPPED = (Path(__file__).resolve().parent.parent / "params.yaml").read_text(encoding="utf-8")


def with_values(changes: Mapping[str, Any]) -> Params:
    """The shipped parameters with some dotted keys set to other values, or added."""
    values = YAML(typ="safe", pure=True).load(SHIPPED)
    for key, value in changes.items():
        *path, last = key.split(".")
        block = values
        for part in path:
            block = block[part]
        block[last] = value
    return Params.model_validate(values)


def test_the_shipped_file_is_right() -> None:
    checking.check(params.parse_text(SHIPPED))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data.sets.twemoji": {"reader": "twemojii"}},
            "no file 'twemojii' in features/datasets; did you mean",
        ),
        ({"data.sets.twemoji": {}}, "data.sets.twemoji.reader: missing"),
        ({"data.sets.twemoji": {"reader": 3}}, "data.sets.twemoji.reader: no file 3 in"),
        ({"data.sets.twemoji": {"reader": "base"}}, "no file 'base' in features/datasets"),
        ({"data.sets.twemoji": {"reader": "twemoji", "pth": "x"}}, "pth: unknown key; did you mean 'path'?"),
        ({"data.sets.twemoji": {"reader": "twemoji", "path": 3}}, "path: 3 cannot be used"),
        (
            {"tasks.base_to_new": {"protocol": "base_new"}},
            "no file 'base_new' in pipeline/tasks; did you mean",
        ),
        ({"tasks.base_to_new": {"shots": 16}}, "tasks.base_to_new.protocol: missing"),
        ({"tasks.base_to_new.shots": 0}, "shots: 0 cannot be used"),
        ({"tasks.base_to_new.shots": "all"}, "shots: 'all' cannot be used"),
        ({"tasks.base_to_new.shot": 4}, "shot: unknown key; did you mean 'shots'?"),
        ({"generators.ship.epoch": 4}, "epoch: unknown key; did you mean 'epochs'?"),
        ({"generators.ship.reconstruction": "max"}, "reconstruction: 'max' cannot be used"),
        ({"generators.ship.kl_weight": float("nan")}, "kl_weight: nan cannot be used"),
        ({"generators.ship.learning_rate": "0.001"}, "learning_rate: '0.001' cannot be used"),
        (
            {"generators.shop": {}, "grid.generators": ["shop"]},
            "'shop' is none of the generators in pipeline",
        ),
        ({"methods.coop.recipe": "cocoop"}, "recipe: 'cocoop' cannot be used"),
        ({"methods.coop.epochs": 2.5}, "epochs: 2.5 cannot be used"),
        ({"methods.zero_shot.epochs": 2}, "epochs: unknown key; known: templates"),
        ({"methods.clip_adapter.ratio": 1.5}, "ratio: 1.5 cannot be used"),
        (
            {"methods.koop": {}, "grid.methods": ["zero_shot", "koop"]},
            "'koop' is none of the methods in pipeline",
        ),
        ({"grid.methods": ["zero_shot", "plot"]}, "plot reads patch tokens, which are stored only if asked for: set"),
        ({"grid.methods": ["coop"]}, "grid.methods: lacks zero_shot"),
        ({"grid.synthetic_methods": ["zero_shot"]}, "'zero_shot' has no use for synthetic features"),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) else "",
)
def test_mistake_is_named_with_its_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        checking.check(with_values(changes))
    assert message in str(caught.value)
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
    with pytest.raises(InputError, match=r"^params.yaml cannot be run \(6 problems\)") as caught:
        checking.check(with_values(changes))
    for part in ("reader", "shots", "epochs", "context", "reduction", "zero_shot"):
        assert part in str(caught.value)


def test_a_block_that_the_grid_does_not_name_may_be_unfinished() -> None:
    checking.check(with_values({"methods.later": {"anything": 1}, "data.sets.later": {"reader": "nowhere"}}))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("caltech101", "tasks.cross_dataset: needs 'caltech101' too; add it to grid.datasets"),
        ("caltech", "tasks.cross_dataset: needs 'caltech', which is not in `data.sets`; did you mean 'caltech101'?"),
    ],
)
def test_a_task_that_needs_another_data_set_says_which(source: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        checking.check(with_values({"grid.tasks": ["cross_dataset"], "tasks.cross_dataset.source": source}))
    assert message in str(caught.value)


@pytest.mark.parametrize("task", ["few_shot", "domain_generalization"])
def test_generators_have_nothing_to_do_where_no_class_is_unseen(task: str) -> None:
    found = {"grid.tasks": [task], "tasks.domain_generalization.source": "twemoji"}
    with pytest.raises(InputError, match=r"has no unseen class, so grid\.generators"):
        checking.check(with_values(found))
    checking.check(with_values({**found, "grid.generators": []}))


def test_a_value_for_one_data_set_is_checked_where_the_grid_has_it() -> None:
    changes = {"generators.ship.epochs": {"default": 50, "caltech101": 0}}
    checking.check(with_values(changes))
    with pytest.raises(InputError, match="epochs: 0 cannot be used"):
        checking.check(with_values({**changes, "grid.datasets": ["twemoji", "caltech101"]}))


VALIDATION_PROXY = {"protocol": "validation_proxy"}


def test_a_choice_needs_its_task_and_its_rehearsal_and_every_lack_is_told_at_once() -> None:
    right = {
        "tasks.mine": {"protocol": "own_images"},
        "tasks.mine_proxy": VALIDATION_PROXY,
        "grid.tasks": ["mine", "mine_proxy"],
        "grid.select": ["mine"],
    }
    checking.check(with_values(right))
    wrong = {**right, "tasks.mine_proxy": {"protocol": "own_images"}, "grid.tasks": ["base_to_new"]}
    with pytest.raises(InputError, match="3 problems") as caught:
        checking.check(with_values(wrong))
    for part in (
        "grid.select: 'mine' needs 'mine' in grid.tasks",
        "grid.select: 'mine' needs 'mine_proxy' in grid.tasks",
        "tasks.mine_proxy: protocol 'own_images' cannot choose for 'mine'; take 'validation_proxy'",
    ):
        assert part in str(caught.value)


def test_rehearsals_alone_are_no_grid() -> None:
    with pytest.raises(InputError, match="which no test image judges"):
        checking.check(with_values({"tasks.mine_proxy": VALIDATION_PROXY, "grid.tasks": ["mine_proxy"]}))
