"""`dvc.yaml` against the code: each stage names the digest of its code, and the paths that the code writes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.artifacts import paths
from pipeline.config.params import Extract, load
from pipeline.steps.code import ROOT, SINGLE, looked_up

STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
AXIS = {
    "index": "dataset",
    "build_task": "task",
    "train_generator": "generator",
    "synthesize": "generator",
    "evaluate_generator": "generator",
    "synthesize_folds": "generator",
    "fit": "method",
    "evaluate": "method",
    "validate": "method",
}


def deps(stage: str) -> list[str]:
    return list(STAGES[stage].get("deps", []))


def module_of(stage: str) -> str:
    """Return the name of the module in stages/ that a stage runs."""
    found = re.search(r"python -m stages\.(\w+)", STAGES[stage]["cmd"])
    assert found
    return found[1]


def test_every_stage_runs_the_module_of_its_name() -> None:
    assert {stage: module_of(stage) for stage in STAGES} == {
        stage: stage.removesuffix("_synthetic") for stage in STAGES
    }
    assert {module_of(stage) for stage in STAGES} <= {path.stem for path in (ROOT / "stages").glob("*.py")}


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "code"])
def test_every_stage_depends_on_the_digest_of_its_code_and_on_no_source_besides(stage: str) -> None:
    module = module_of(stage)
    name = f"/${{item.{AXIS[module]}}}" if module in AXIS else ""
    assert [dep for dep in deps(stage) if dep.startswith("artifacts/code")] == [f"artifacts/code/{module}{name}.txt"]
    assert not [dep for dep in deps(stage) if dep.startswith(("features", "pipeline", "stages"))]


def test_the_stages_that_look_up_modules_are_those_with_a_digest_for_each_name() -> None:
    assert set(looked_up(load(ROOT / "params.yaml"))) == set(AXIS)
    assert {module_of(stage) for stage in STAGES} == {*AXIS, *SINGLE, "code"}


def test_all_sources_are_deps_of_the_stage_that_digests_them() -> None:
    assert deps("code") == ["features", "pipeline", "stages"]
    assert STAGES["code"]["params"] == ["data.sets", "tasks"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_dep_that_is_not_an_artifact_exists(stage: str) -> None:
    assert [dep for dep in deps(stage) if not dep.startswith("artifacts/") and not (ROOT / dep).exists()] == []


def outs(stage: str) -> list[str]:
    return [re.sub(r"\$\{(?:grid|item)\.(\w+)\}", r"<\1>", out) for out in STAGES[stage]["outs"]]


def test_the_code_writes_where_dvc_yaml_says() -> None:
    encoder = paths.EncoderPaths(paths.ROOT / "<encoder>")
    cell = encoder.cell("<dataset>", "<task>")
    plus = paths.run_name("<method>", "<generator>")
    written = {
        "code": [paths.CODE],
        "index": [paths.index("<dataset>"), paths.names("<dataset>")],
        "extract": [encoder.features("<dataset>")],
        "text_tower": [encoder.text_tower],
        "classes": [encoder.classes("<dataset>")],
        "build_task": [cell.train, cell.unseen, cell.validation, cell.test],
        "train_generator": [cell.generator("<generator>")],
        "synthesize": [cell.synthetic("<generator>")],
        "evaluate_generator": [cell.quality("<generator>")],
        "visualize_features": [cell.generator_diagnostics("<generator>")],
        "fit": [cell.fitted("<method>")],
        "fit_synthetic": [cell.fitted(plus)],
        "evaluate": [cell.scores("<method>"), cell.logits("<method>"), cell.diagnostics("<method>")],
        "evaluate_synthetic": [cell.scores(plus), cell.logits(plus), cell.diagnostics(plus)],
        "synthesize_folds": [cell.fold_features("<generator>")],
        "validate": [cell.validation_logits("<method>")],
        "validate_synthetic": [cell.validation_logits(plus)],
        "select": [cell.selection],
        "evaluate_balanced": [cell.balanced],
        "report": [encoder.report],
    }
    assert {stage: [path.as_posix() for path in places] for stage, places in written.items()} == {
        stage: outs(stage) for stage in STAGES
    }


def test_nothing_that_fits_can_see_test_images() -> None:
    blind = ("train_generator", "synthesize", "synthesize_folds", "fit", "fit_synthetic", "validate", "select")
    for stage in (*blind, "validate_synthetic"):
        assert not [dep for dep in deps(stage) if dep.endswith(("test.h5", "/features", "/tasks"))]


def test_generators_learn_from_what_a_new_name_does_not_change() -> None:
    inputs = [Path(dep).name for dep in deps("train_generator") if re.match(r"artifacts/(?!code/)", dep)]
    assert inputs == ["train.h5", "text_tower.safetensors"]


@pytest.mark.parametrize("stage", ["extract", "report"])
def test_all_of_extract_is_tracked_but_its_engine(stage: str) -> None:
    tracked = {key.removeprefix("extract.") for key in STAGES[stage]["params"] if key.startswith("extract")}
    assert tracked == set(Extract.model_fields) - {"engine"}
