"""An output is refused when what it is made of changes while its stage is at work."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from project_root import ROOT
from small_repo import PARAMS, write_params

from features.errors import InputError
from features.formats import files
from features.formats.files import atomic_file, atomic_folder
from pipeline.executor.stage_inputs import watch_inputs

OPTIONS = {"dataset": "mine", "task": "base_to_new", "method": "coop", "generator": None}
TRAIN = Path("artifacts/tiny/tasks/mine/base_to_new/train.h5")


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    write_params(tmp_path, PARAMS)
    TRAIN.parent.mkdir(parents=True)
    TRAIN.write_bytes(b"train")
    monkeypatch.setattr(files, "_checks", [])


def edit(key: str, value: object) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    *path, last = key.split(".")
    block = params
    for part in path:
        block = block[part]
    block[last] = value
    write_params(Path(), params)


@pytest.mark.parametrize(
    ("key", "value"), [("methods.coop.epochs", 7), ("grid.seeds", [1]), ("text_tower.precision", "x")]
)
@pytest.mark.parametrize("write", [atomic_file, atomic_folder])
def test_a_setting_of_the_stage_that_is_edited_meanwhile_stops_its_output(
    key: str, value: object, write: type[atomic_file]
) -> None:
    watch_inputs("fit", OPTIONS)
    edit(key, value)
    with pytest.raises(InputError, match=key.removesuffix(".epochs")), write(Path("out")):
        pass
    assert not Path("out").exists()


def test_a_dep_that_is_replaced_meanwhile_stops_the_output() -> None:
    watch_inputs("fit", OPTIONS)
    TRAIN.write_bytes(b"other")
    with pytest.raises(InputError, match=r"train\.h5"), atomic_file(Path("out")):
        pass


def test_settings_of_other_stages_may_be_edited_meanwhile() -> None:
    watch_inputs("fit", OPTIONS)
    edit("methods.tip_adapter.beta_points", 9)
    edit("compute.batch", 1)
    with atomic_file(Path("out")) as part:
        part.touch()
    assert Path("out").exists()


def test_with_a_generator_the_deps_are_those_of_the_synthetic_stage() -> None:
    shard = Path("artifacts/tiny/synthetic/mine/base_to_new/ship/seed=1/part-0.parquet")
    shard.parent.mkdir(parents=True)
    shard.write_bytes(b"a")
    watch_inputs("fit", {**OPTIONS, "generator": "ship"})
    shard.write_bytes(b"bc")
    with pytest.raises(InputError, match=r"part-0\.parquet"), atomic_file(Path("out")):
        pass
