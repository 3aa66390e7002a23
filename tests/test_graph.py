"""`dvc.yaml` against the code: every stage names what it imports, and the paths that the code writes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from closure import ROOT, closure

import features.datasets
import pipeline.generators
import pipeline.methods
import pipeline.protocols
from features.lookup import names
from pipeline.artifacts import paths
from pipeline.config.params import Extract

STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
FOUND_BY_NAME = {"method": pipeline.methods, "generator": pipeline.generators}

# Imported by stages, but never a dep: these read settings, whose values DVC tracks one by one, name paths, which
# dvc.yaml says itself, import packages, and speak to people. They decide no byte, and a new parameter must not redo
# every extraction.
PLUMBING = {
    "features/runtime/commandline.py",
    "features/errors.py",
    "features/runtime/interruption.py",
    "features/runtime/lazy_open_clip.py",
    "features/lookup.py",
    "features/runtime/progress.py",
    "features/settings.py",
    "pipeline/config/params.py",
    "pipeline/artifacts/paths.py",
    "stages/options.py",
    "stages/running.py",
    "stages/times.py",
}
# Imported by a stage, but no dep of it, each with its reason.
EXEMPT = {
    # The reader only says in which folder the images lie. Each image's sha256 is compared with the index, so no change
    # of a reader changes a feature, and extraction is too dear to be redone for a docstring.
    "extract": {"features/datasets/base.py"},
}


def deps(stage: str) -> list[str]:
    return list(STAGES[stage].get("deps", []))


def sources(stage: str) -> set[Path]:
    """Every source that some cell of the stage runs."""
    module = re.search(r"python -m stages\.(\w+)", STAGES[stage]["cmd"])
    assert module
    found = closure(ROOT / "stages" / f"{module[1]}.py")
    for axis, package in FOUND_BY_NAME.items():
        if f"${{item.{axis}}}.py" in " ".join(deps(stage)):
            found |= closure(*(Path(p) / f"{name}.py" for p in package.__path__ for name in names(package)))
    for package in (features.datasets, pipeline.methods, pipeline.protocols):
        if package.__name__.replace(".", "/") in deps(stage):
            found |= closure(*(Path(p) / f"{name}.py" for p in package.__path__ for name in names(package)))
    return found


def covered(path: str, stage: str) -> bool:
    patterns = [re.sub(r"\\\$\\\{item\\?\.\w+\\\}", r"[^/]+", re.escape(dep)) for dep in deps(stage)]
    return any(re.fullmatch(f"{pattern}(/.*)?", path) for pattern in patterns)


@pytest.mark.parametrize("stage", STAGES)
def test_every_import_is_a_dep(stage: str) -> None:
    imported = {path.relative_to(ROOT).as_posix() for path in sources(stage)} - EXEMPT.get(stage, set()) - PLUMBING
    missing = sorted(path for path in imported if not covered(path, stage))
    assert not missing, f"dvc.yaml: add these to the deps of {stage!r}: {missing}"


@pytest.mark.parametrize("stage", STAGES)
def test_no_dep_on_a_source_that_is_not_imported(stage: str) -> None:
    """A dep too many reruns work for nothing. A package is a dep of stages that import at least three modules of it."""
    imported = {path.relative_to(ROOT).as_posix() for path in sources(stage)} - PLUMBING
    own = [dep for dep in deps(stage) if dep.endswith(".py") and "${" not in dep]
    assert [dep for dep in own if dep not in imported] == []
    packages = [dep for dep in deps(stage) if (ROOT / dep / "__init__.py").exists()]
    assert [dep for dep in packages if sum(path.startswith(f"{dep}/") for path in imported) < 3] == []


@pytest.mark.parametrize("stage", STAGES)
def test_every_dep_that_is_a_source_exists(stage: str) -> None:
    own = [dep for dep in deps(stage) if not dep.startswith("artifacts/") and "${" not in dep]
    assert [dep for dep in own if not (ROOT / dep).exists()] == []


def outs(stage: str) -> list[str]:
    return [re.sub(r"\$\{(?:grid|item)\.(\w+)\}", r"<\1>", out) for out in STAGES[stage]["outs"]]


def test_the_code_writes_where_dvc_yaml_says() -> None:
    made = paths.EncoderPaths(paths.ROOT / "<encoder>")
    cell = made.cell("<dataset>", "<task>")
    plus = paths.run_name("<method>", "<generator>")
    written = {
        "index": [paths.index("<dataset>"), paths.names("<dataset>")],
        "extract": [made.features("<dataset>")],
        "text_tower": [made.text_tower],
        "classes": [made.classes("<dataset>")],
        "build_task": [cell.train, cell.unseen, cell.validation, cell.test],
        "train_generator": [cell.generator("<generator>")],
        "synthesize": [cell.synthetic("<generator>")],
        "evaluate_generator": [cell.quality("<generator>")],
        "visualize_features": [cell.generator_diagnostics("<generator>")],
        "fit": [cell.fitted("<method>")],
        "fit_synthetic": [cell.fitted(plus)],
        "evaluate": [cell.scores("<method>"), cell.logits("<method>"), cell.diagnostics("<method>")],
        "evaluate_synthetic": [cell.scores(plus), cell.logits(plus), cell.diagnostics(plus)],
        "select": [cell.selection],
        "report": [made.report],
    }
    assert {stage: [path.as_posix() for path in made_by] for stage, made_by in written.items()} == {
        stage: outs(stage) for stage in STAGES
    }


def test_nothing_that_fits_can_see_test_images() -> None:
    for stage in ("train_generator", "synthesize", "fit", "fit_synthetic", "select"):
        assert not [dep for dep in deps(stage) if dep.endswith(("test.h5", "/features", "/tasks"))]


def test_generators_learn_from_what_a_new_name_does_not_change() -> None:
    made = [Path(dep).name for dep in deps("train_generator") if dep.startswith("artifacts/")]
    assert made == ["train.h5", "text_tower.safetensors"]


@pytest.mark.parametrize("stage", ["extract", "report"])
def test_all_of_extract_is_tracked_but_its_engine(stage: str) -> None:
    tracked = {key.removeprefix("extract.") for key in STAGES[stage]["params"] if key.startswith("extract")}
    assert tracked == set(Extract.model_fields) - {"engine"}
