"""A real DVC repository, small enough to run in a test: real pictures, and an encoder with random weights."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import warm
import yaml
from closure import ROOT
from pictures import picture

ENCODER = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}
NAMED = {"unseen": "classes/mine.txt"}  # a comment, and no name yet
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
def warm_path() -> Iterator[None]:
    """Until the end, the PATH begins with a `python`, a `dvc` and a `shipyard` that start at once."""
    before = os.environ["PATH"]
    with warm.programs() as folder:
        os.environ["PATH"] = os.pathsep.join([str(folder), str(Path(sys.executable).parent), before])
        try:
            yield
        finally:
            os.environ["PATH"] = before


def run(repo: Path, *command: str, check: bool = True) -> str:
    """The output of a command in the repository."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo)}
    done = subprocess.run(command, cwd=repo, env=env, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{command}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def ran(output: str) -> set[str]:
    """The stages that `dvc repro` says it ran."""
    return set(re.findall(r"Running stage '([^']+)'", output))


def lock(repo: Path) -> dict[str, Any]:
    """What DVC last ran, by stage."""
    stages: dict[str, Any] = yaml.safe_load((repo / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    return stages


def write_params(repo: Path, params: dict[str, Any]) -> None:
    (repo / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def write_encoder(folder: Path) -> None:
    """`encoder/`, an encoder with random weights."""
    (folder / "encoder").mkdir()
    (folder / "encoder/open_clip_config.json").write_text(json.dumps(ENCODER), encoding="utf-8")


def stage(name: str, **options: str) -> None:
    """Run a stage here and now, in the current folder."""
    import_module(f"stages.{name}").main(**options)


def make_repo(made: Path, params: dict[str, Any] = PARAMS) -> Path:
    """The code, the encoder and pictures of four classes in a new git and DVC repository; nothing has run in it."""
    for name in ("classes", "draws", "features", "pipeline", "stages", "assets/published"):
        shutil.copytree(ROOT / name, made / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, made / name)
    write_encoder(made)
    number = 0
    for split, count in {"train": 3, "val": 1, "test": 3}.items():
        for name in ("cat", "sea horse", "kite", "drum"):
            folder = made / "data/mine" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                picture(number := number + 1).save(folder / f"{i}.png")
    (made / "classes/mine.txt").write_text("# only named: none yet\n", encoding="utf-8")
    write_params(made, params)
    run(made, "git", "init", "-q")
    run(made, "dvc", "init", "-q")
    run(made, "dvc", "config", "core.analytics", "false")
    shutil.copytree(ROOT / ".dvc/plots", made / ".dvc/plots")
    return made
