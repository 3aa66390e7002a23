"""The pipeline as `dvc repro` runs it: a real DVC repository, real pictures, a tower with random weights."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
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
PARAMS: dict[str, Any] = {
    "grid": {
        "encoder": "tiny",
        "datasets": ["mine"],
        "tasks": ["base_to_new"],
        "methods": ["zero_shot", "coop", "tip_adapter"],
        "generators": ["ship"],
        "synthetic_methods": ["coop"],
        "seeds": [1, 2],
    },
    "encoders": {"tiny": {"model": "local-dir:encoder", "pretrained": "random:0"}},
    "compute": {"device": "cpu", "batch": 8, "workers": 0},
    "data": {"root": "data", "sets": {"mine": {"reader": "image_folder", "path": "mine", "splits": "folders"}}},
    "extract": {"precision": "float32", "views": 1, "view_scale": [0.5, 1.0], "view_seed": 0},
    "tasks": {"base_to_new": {"protocol": "base_to_new", "shots": 2}},
    "generators": {"ship": {"encoder_width": 16, "generator_width": 16, "epochs": 2}},
    "synthesis": {"per_class": 4},
    "projection": {"methods": ["pca"], "classes": 2, "per_class": 3},
    "methods": {"zero_shot": {}, "coop": {"epochs": 2}, "tip_adapter": {"beta_points": 3, "alpha_points": 3}},
}


def run(repo: Path, *command: str, check: bool = True) -> str:
    """The output of a command in the repository."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo)}
    done = subprocess.run(command, cwd=repo, env=env, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{command}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def ran(output: str) -> set[str]:
    """The stages that `dvc repro` says it ran."""
    return set(re.findall(r"Running stage '([^']+)'", output))


def write_params(repo: Path, params: dict[str, Any]) -> None:
    (repo / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code with small data and a small encoder, after one `dvc repro`; tests put back what they change."""
    made = tmp_path_factory.mktemp("repo")
    for name in ("classes", "features", "pipeline", "stages", "assets/published"):
        shutil.copytree(ROOT / name, made / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, made / name)
    (made / "encoder").mkdir()
    (made / "encoder/open_clip_config.json").write_text(json.dumps(ENCODER), encoding="utf-8")
    number = 0
    for split, count in {"train": 3, "val": 1, "test": 3}.items():
        for name in ("cat", "sea horse", "kite", "drum"):
            folder = made / "data/mine" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                picture(number := number + 1).save(folder / f"{i}.png")
    write_params(made, PARAMS)
    run(made, "git", "init", "-q")
    run(made, "dvc", "init", "-q")
    run(made, "dvc", "config", "core.analytics", "false")
    run(made, "dvc", "repro")
    return made


def test_every_stage_ran_and_a_second_run_does_nothing(repo: Path) -> None:
    assert "up to date" in run(repo, "dvc", "repro")
    assert ran(run(repo, "dvc", "repro")) == set()


def test_results_are_tidy_and_whole(repo: Path) -> None:
    with (repo / "artifacts/tiny/report/results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} == {"zero_shot", "coop", "coop+ship", "tip_adapter"}
    assert {row["seed"] for row in rows} == {"1", "2"}
    dashes = {(row["method"], row["judgement"]) for row in rows if not row["accuracy"]}
    assert dashes == {("tip_adapter", "new"), ("tip_adapter", "harmonic_mean")}
    assert all(int(row["n"]) == 6 for row in rows if row["judgement"] != "harmonic_mean")


def test_a_generator_is_judged_on_test_images_of_unseen_classes(repo: Path) -> None:
    found = json.loads((repo / "artifacts/tiny/scores/mine/base_to_new/ship.quality.json").read_text(encoding="utf-8"))
    assert (found["images"], found["classes"], found["named"], found["per_class"]) == (6, 2, 2, 4)
    for seed in found["seeds"]:
        assert set(seed["nearest_mean"]) == {"kite", "sea horse"}
        assert set(seed["seen"]) == {"spread_real", "spread_synthetic"}
        assert seed["latent"]["kl"] == pytest.approx(sum(seed["kl_by_latent"]), rel=1e-4)
        assert len(seed["kl_by_latent"]) == 32  # the width of a token
    assert "nearest_mean_accuracy" in run(repo, "dvc", "metrics", "show")


def test_learned_prompts_are_read_back_as_words(repo: Path) -> None:
    with (repo / "artifacts/tiny/fitted/mine/base_to_new/coop/words.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4 * 3  # seeds, context vectors, words of each
    start = [(row["word"], row["distance"]) for row in rows if (row["seed"], row["rank"]) == ("1", "1")]
    assert [word for word, _ in start] == ["a", "photo", "of", "a"]  # two epochs move them little
    assert all(0 < float(distance) < 0.1 for _, distance in start)
    with (repo / "artifacts/tiny/generators/mine/base_to_new/ship/words.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 4 * 3  # seeds, seen classes, prompt vectors, words of each
    assert {row["class"] for row in rows} == {"cat", "drum"}
    said = shipyard(repo, "words", "coop+ship", "--seed", "2", "--count", "1")
    assert "coop+ship on mine, base_to_new, seed 2: nearest tokens" in said
    assert len(re.findall(r"^ +\d  a|photo|of \(0\.\d+\)$", said, re.M)) == 4
    said = shipyard(repo, "words", "ship", "--image", "test/kite/0.png", "--image", "train/cat/1.png")
    assert said.index("test/kite/0.png") < said.index("train/cat/1.png")
    assert "'zero_shot' learned no prompts" in shipyard(repo, "words", "zero_shot")
    assert "'kite.png'" in shipyard(repo, "words", "ship", "--image", "kite.png")


def shipyard(repo: Path, *args: str) -> str:
    return run(repo, sys.executable, "-c", "from pipeline.cli import main; main()", *args, check=False)


# What a change of a parameter makes stale by itself; what depends on these outputs follows only if they change.
STALE = {
    "methods.coop.epochs": {
        "finetune@mine-base_to_new-coop",
        "finetune_synthetic@mine-base_to_new-ship-coop",
        "report",
    },
    "methods.tip_adapter.alpha_points": {"finetune@mine-base_to_new-tip_adapter", "report"},
    "generators.ship.epochs": {
        "train_generator@mine-base_to_new-ship",
        "synthesize@mine-base_to_new-ship",
        "judge_generator@mine-base_to_new-ship",
        "report",
    },
    "synthesis.per_class": {"synthesize@mine-base_to_new-ship", "judge_generator@mine-base_to_new-ship", "report"},
    "projection.classes": {"project@mine-base_to_new-ship", "report"},
    "tasks.base_to_new.shots": {"assemble@mine-base_to_new", "report"},
    "extract.views": {"extract@mine", "report"},
    "compute.batch": set(),
    "compute.workers": set(),
    "data.root": set(),
}
VALUES = {"data.root": "elsewhere"}


@pytest.mark.parametrize("key", STALE)
def test_a_parameter_makes_stale_exactly_what_reads_it(repo: Path, key: str) -> None:
    params = json.loads(json.dumps(PARAMS))
    block = params
    *path, last = key.split(".")
    for part in path:
        block = block[part]
    block[last] = VALUES.get(key) or block[last] + 1
    write_params(repo, params)
    try:
        status = json.loads(run(repo, "dvc", "status", "--json").splitlines()[-1])
    finally:
        write_params(repo, PARAMS)
    stale = {stage for stage, why in status.items() if any("changed deps" in reason for reason in why)}
    assert stale == STALE[key]


def test_a_change_of_one_method_reruns_that_method_and_the_report(repo: Path) -> None:
    params = json.loads(json.dumps(PARAMS))
    params["methods"]["tip_adapter"]["alpha"] = 2.5
    params["methods"]["tip_adapter"]["beta_points"] = 4
    write_params(repo, params)
    try:
        output = run(repo, "dvc", "repro")
    finally:
        write_params(repo, PARAMS)
    assert ran(output) - {"evaluate@mine-base_to_new-tip_adapter"} == {
        "finetune@mine-base_to_new-tip_adapter",
        "report",
    }
    assert ran(run(repo, "dvc", "repro")) == set(), "the old parameters' results are in the run cache"


@pytest.mark.parametrize(
    "stage",
    [
        "assemble@mine-base_to_new",
        "synthesize@mine-base_to_new-ship",
        "judge_generator@mine-base_to_new-ship",
        "project@mine-base_to_new-ship",
        "evaluate@mine-base_to_new-coop",
        "finetune@mine-base_to_new-coop",
        "extract@mine",
    ],
)
def test_the_same_inputs_give_the_same_bytes(repo: Path, stage: str) -> None:
    before = yaml.safe_load((repo / "dvc.lock").read_text(encoding="utf-8"))["stages"][stage]
    run(repo, "dvc", "repro", "--force", "--single-item", stage)
    after = yaml.safe_load((repo / "dvc.lock").read_text(encoding="utf-8"))["stages"][stage]
    assert after["outs"] == before["outs"]


def test_a_stage_that_fails_says_why_and_leaves_the_rest_as_it_was(repo: Path) -> None:
    params = json.loads(json.dumps(PARAMS))
    params["tasks"]["base_to_new"]["shots"] = 99
    write_params(repo, params)
    try:
        output = run(repo, "dvc", "repro", check=False)
    finally:
        write_params(repo, PARAMS)
    assert "99 images of every class are needed" in output
    assert "'cat' has 3" in output
    assert "Traceback" not in output
    assert ran(run(repo, "dvc", "repro")) <= {"assemble@mine-base_to_new"}


CELL = ["--dataset", "mine", "--task", "base_to_new"]
LONG = {
    "train_generator": ([*CELL, "--generator", "ship"], ("generators", "ship"), "generators/mine/base_to_new/ship"),
    "finetune": ([*CELL, "--method", "coop"], ("methods", "coop"), "fitted/mine/base_to_new/coop"),
}


@pytest.mark.parametrize("stage", LONG)
def test_ctrl_c_leaves_what_was_there_and_says_how_to_go_on(repo: Path, stage: str) -> None:
    options, (kind, name), out = LONG[stage]
    folder = repo / "artifacts/tiny" / out
    before = {path: path.read_bytes() for path in folder.iterdir()}
    params = json.loads(json.dumps(PARAMS))
    params[kind][name]["epochs"] = 10**6
    write_params(repo, params)
    env = {**os.environ, "PYTHONPATH": str(repo), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"stages.{stage}", *options]
    try:
        child = subprocess.Popen(command, cwd=repo, env=env, stderr=subprocess.PIPE, text=True)
        part = folder.with_name(f".{folder.name}.part")
        for _ in range(600):
            if part.exists():  # it has begun to work
                break
            time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    finally:
        child.kill()
        write_params(repo, PARAMS)
    assert child.returncode == 130
    assert "`dvc repro` goes on from here" in said
    assert "Traceback" not in said
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert not part.exists()
