"""A family of views that a method or a generator names must be stored, or be about to be."""

from __future__ import annotations

from pathlib import Path

import pytest
from pictures import make_images
from project_root import ROOT
from small_image_store import FACTS, write_with

from features.errors import InputError
from pipeline.cli.check import Blocks, check, learners
from pipeline.cli.check_views import view_conflicts
from pipeline.config import overrides, params
from pipeline.config.params import Params

SHIPPED = params.read(ROOT / "params.yaml")
WIDE = "extract.view_families={wide: [0.08, 1.0]}"


def with_settings(*assignments: str) -> Params:
    return params.parse_text(overrides.apply(SHIPPED, list(assignments)))


def test_a_family_must_be_extracted() -> None:
    named = ["methods.coop.view_family=wyde", "generators.ship.view_family={default: null, twemoji: other}"]
    check(with_settings("methods.coop.view_family=wide", WIDE))
    with pytest.raises(InputError, match=r"\(2 problems\)") as caught:
        check(with_settings(*named, WIDE))
    for part in ("methods.coop.view_family: 'wyde'", "'wide'?", "generators.ship.view_family: 'other'"):
        assert part in str(caught.value)


def test_only_data_sets_that_are_learned_from_are_asked() -> None:
    transfer = ["grid.tasks=[cross_dataset]", "grid.datasets=[twemoji, caltech101]"]
    family = "methods.coop.view_family={default: null, twemoji: wide}"
    check(with_settings(*transfer, "tasks.cross_dataset.source=caltech101", family))
    with pytest.raises(InputError, match=r"methods\.coop\.view_family: 'wide' is not in extract\.view_families"):
        check(with_settings(*transfer, "tasks.cross_dataset.source=twemoji", family))


def test_imported_features_have_the_families_that_they_came_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    index = make_images(tmp_path / "images", {"train": 3, "test": 3})
    write_with({**FACTS, "view_families": {"wide": [0.08, 1.0]}}, Path("artifacts/liteclip/features/lab.zarr"), index)
    lab = overrides.insert(SHIPPED, "data.sets", "lab", {"reader": "imported"})
    grid = ["grid.datasets=[lab]", WIDE.replace("wide", "other")]

    def problems(family: str) -> list[str]:
        """Ask only for the views: this folder has no encoder."""
        run_params = params.parse_text(overrides.apply(lab, [*grid, f"methods.coop.view_family={family}"]))
        return list(view_conflicts(run_params, "lab", *learners(run_params, "lab", Blocks())))

    assert problems("wide") == []
    (problem,) = problems("other")
    assert all(part in problem for part in ("methods.coop.view_family: 'other'", "imported", "'lab'", "known: wide"))
