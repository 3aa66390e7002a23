"""A real DVC repository that is small enough to run in a test: real pictures, and an encoder with random weights.

`make_repo` writes one in which nothing has run. The fixture `reproduced_repo` of conftest.py is one after `dvc repro`,
made once for all tests; a test copies it by `copy_repo`, which takes seconds less than to run its stages again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import warm
import yaml
from pictures import picture
from project_root import ROOT

from pipeline.config.params import Params

ENCODER = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}
NAMED = {"unseen": "classes/mine.txt"}  # the file holds one comment and no name
PARAMS: dict[str, Any] = {
    "grid": {
        "encoder": "tiny",
        "datasets": ["mine"],
        "tasks": ["base_to_new"],
        "methods": ["zero_shot", "coop", "tip_adapter"],
        "generators": ["ship"],
        "synthetic_methods": ["coop"],
        "seeds": [1, 2],
        "select": [],
        "balance": True,
    },
    "encoders": {"tiny": {"model": "local-dir:encoder", "pretrained": "random:0"}},
    "compute": {"device": "cpu", "batch": 8, "workers": 0, "verify": True},
    "data": {
        "root": "data",
        "sets": {"mine": {"reader": "image_folder", "path": "mine", "splits": "folders", **NAMED}},
    },
    "extract": {
        "precision": "float32",
        "views": 1,
        "view_scale": [0.5, 1.0],
        "view_families": {},
        "view_seed": 0,
        "patch_tokens": False,
        "on_bad_image": "fail",
        "engine": "local",
    },
    "text_tower": {"precision": "float32"},
    "tasks": {"base_to_new": {"protocol": "base_to_new", "shots": 2}},
    "generators": {"ship": {"encoder_width": 16, "generator_width": 16, "epochs": 2}},
    "synthesis": {"per_class": 4},
    "visualization": {"methods": ["pca"], "classes": 2, "per_class": 3},
    "methods": {"zero_shot": {}, "coop": {"epochs": 2}, "tip_adapter": {"beta_points": 3, "alpha_points": 3}},
}


@contextmanager
def path_with(folder: Path) -> Iterator[None]:
    """Put the programs of `warm.programs` first on the PATH, until the block ends."""
    before = os.environ["PATH"]
    os.environ["PATH"] = os.pathsep.join([str(folder), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


@contextmanager
def warm_path() -> Iterator[None]:
    """Start the programs of `warm.programs` and put them on the PATH, until the block ends.

    The fixture `warm_path` of conftest.py does this with one server for all tests of a worker.
    """
    with warm.programs() as folder, path_with(folder):
        yield


def run(repo: Path, *command: str, check: bool = True) -> str:
    """Run a command in the repository and return its stdout, then its stderr."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo)}
    done = subprocess.run(command, cwd=repo, env=env, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{command}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def ran(output: str) -> set[str]:
    """Return the stages that `dvc repro` or `shipyard run` reports as run."""
    return set(re.findall(r"Running stage '([^']+)'", output)) | set(re.findall(r"(?m)^\[\d+/\d+\] (\S+)$", output))


def lock(repo: Path) -> dict[str, Any]:
    """Return the stages of dvc.lock: dependencies, parameters and outputs of each stage when it last ran."""
    stages: dict[str, Any] = yaml.safe_load((repo / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    return stages


def write_params(repo: Path, params: dict[str, Any]) -> None:
    """Write params.yaml."""
    (repo / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def write_encoder(folder: Path) -> None:
    """Write `encoder/`, the configuration of an encoder whose weights are drawn at random."""
    (folder / "encoder").mkdir()
    (folder / "encoder/open_clip_config.json").write_text(json.dumps(ENCODER), encoding="utf-8")


def stage(name: str, **options: str) -> None:
    """Run a stage in this process, in the current folder."""
    import_module(f"stages.{name}").main(**options)


def run_stages(params: Params) -> None:
    """Run every stage from `index` to `evaluate` of a grid of one data set and one task in this process."""
    grid = params.grid
    dataset = {"dataset": grid.datasets[0]}
    cell = {**dataset, "task": grid.tasks[0]}
    for name in ("index", "extract"):
        stage(name, **dataset)
    stage("text_tower")
    stage("classes", **dataset)
    stage("build_task", **cell)
    for generator in grid.generators:
        stage("train_generator", **cell, generator=generator)
        stage("synthesize", **cell, generator=generator)
    runs = [{"method": method} for method in grid.methods]
    runs += [{"method": method, "generator": g} for g in grid.generators for method in grid.synthetic_methods]
    for run_of_cell in runs:
        stage("fit", **cell, **run_of_cell)
        stage("evaluate", **cell, **run_of_cell)


def make_repo(repo: Path, params: dict[str, Any] = PARAMS) -> Path:
    """Write the code, the encoder and pictures of four classes into a new git and DVC repository, and run nothing."""
    for name in ("classes", "draws", "features", "pipeline", "stages", "assets/published"):
        shutil.copytree(ROOT / name, repo / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, repo / name)
    write_encoder(repo)

    number = 0
    for split, count in {"train": 3, "val": 1, "test": 3}.items():
        for name in ("cat", "sea horse", "kite", "drum"):
            folder = repo / "data/mine" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                number += 1
                picture(number).save(folder / f"{i}.png")
    (repo / "classes/mine.txt").write_text("# only named: none yet\n", encoding="utf-8")
    write_params(repo, params)

    run(repo, "git", "init", "-q")
    run(repo, "dvc", "init", "-q")
    run(repo, "dvc", "config", "core.analytics", "false")
    shutil.copytree(ROOT / ".dvc/plots", repo / ".dvc/plots")
    return repo


def copy_repo(repo: Path, place: Path) -> Path:
    """Copy a repository with its outputs and DVC's cache; what was up to date is up to date in the copy."""
    return shutil.copytree(repo, place, symlinks=True)
