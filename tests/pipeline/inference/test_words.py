"""What `shipyard words` says of a run that is not fitted: the command that fits it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from project_root import ROOT

from features.errors import InputError
from pipeline.artifacts.paths import EncoderPaths, weights
from pipeline.config.params import Params
from pipeline.inference.words import check_fitted


@pytest.fixture(scope="module")
def params() -> Params:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["data"]["sets"]["mybirds"] = {"reader": "image_folder", "path": "birds"}
    values["tasks"]["mybirds"] = {"protocol": "own_images"}
    return Params.model_validate(values)


@pytest.mark.parametrize(
    ("run", "dataset", "seed", "fix"),
    [
        ("coop", "twemoji", 1, "`shipyard run`"),
        ("coop+ship", "mybirds", 1, "`shipyard run mybirds`"),
        ("coop", "twemoji", 9, "1, 2, 3"),
        ("vpt", "twemoji", 1, "grid.methods"),
        ("gan_clip", "twemoji", 1, "grid.generators"),
        ("kgcoop+ship", "twemoji", 1, "grid.synthetic_methods"),
        ("copo", "twemoji", 1, "'coop'"),
        ("coop", "twemoij", 1, "'twemoji'"),
    ],
)
def test_the_command_that_helps_is_named(run: str, dataset: str, seed: int, fix: str, params: Params) -> None:
    cell = EncoderPaths(Path("nowhere")).cell(dataset, dataset if dataset == "mybirds" else "base_to_new")
    with pytest.raises(InputError) as caught:
        check_fitted(params, cell, run, seed)
    assert fix in str(caught.value)


def test_a_run_that_is_fitted_needs_no_grid(params: Params, tmp_path: Path) -> None:
    cell = EncoderPaths(tmp_path).cell("elsewhere", "few_shot")
    file = weights(cell.fitted("vpt"), 7)
    file.parent.mkdir(parents=True)
    file.touch()
    check_fitted(params, cell, "vpt", 7)
