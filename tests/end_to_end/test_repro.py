"""The pipeline under `dvc repro`: what reruns, what does not, and that the same inputs give the same bytes."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from project_root import ROOT
from small_repo import PARAMS, copy_repo, lock, ran, run, write_params

from features.formats.files import part_path
from pipeline.executor.repository import RUN_OWNER


@pytest.fixture(scope="module")
def repo(reproduced_repo: Path, warm_path: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small repository after one `dvc repro`; each test restores what it changes."""
    return copy_repo(reproduced_repo, tmp_path_factory.mktemp("desk") / "repo")


@contextmanager
def changed_params(repo: Path, key: str, value: object) -> Iterator[None]:
    """Change one parameter, named by a dotted key, until the block ends."""
    params = json.loads(json.dumps(PARAMS))
    *path, last = key.split(".")
    block = params
    for part in path:
        block = block[part]
    block[last] = value
    write_params(repo, params)
    try:
        yield
    finally:
        write_params(repo, PARAMS)


def test_a_second_repro_runs_no_stage(repo: Path) -> None:
    assert ran(run(repo, "dvc", "repro")) == set()


def test_the_results_table_has_every_run_seed_and_split(repo: Path) -> None:
    with (repo / "artifacts/tiny/report/results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} == {"zero_shot", "coop", "coop+ship", "tip_adapter"}
    assert {row["seed"] for row in rows} == {"1", "2"}
    dashes = {(row["method"], row["eval_split"]) for row in rows if not row["accuracy"]}
    assert dashes == {("tip_adapter", "new"), ("tip_adapter", "harmonic_mean")}
    assert {row["n"] for row in rows if row["eval_split"] != "harmonic_mean"} == {"6"}


def test_a_generator_is_evaluated_on_test_images_of_unseen_classes(repo: Path) -> None:
    path = repo / "artifacts/tiny/scores/mine/base_to_new/ship.quality.json"
    quality = json.loads(path.read_text(encoding="utf-8"))
    assert (quality["images"], quality["classes"], quality["named"], quality["per_class"]) == (6, 2, 2, 4)
    for seed in quality["seeds"]:
        assert set(seed["nearest_mean"]) == {"kite", "sea horse"}
        assert set(seed["seen"]) == {"spread_real", "spread_synthetic"}
        assert seed["latent"]["kl"] == pytest.approx(sum(seed["kl_by_latent"]), rel=1e-4)
        assert len(seed["kl_by_latent"]) == 32  # the width of a token
    assert "nearest_mean_accuracy" in run(repo, "dvc", "metrics", "show")


def test_learned_prompts_are_reported_as_their_nearest_words(repo: Path) -> None:
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

    output = shipyard(repo, "words", "coop+ship", "--seed", "2", "--count", "1")
    assert "coop+ship on mine, base_to_new, seed 2" in output
    assert len(re.findall(r"^ +\d  a|photo|of \(0\.\d+\)$", output, re.M)) == 4
    output = shipyard(repo, "words", "ship", "--image", "test/kite/0.png", "--image", "train/cat/1.png")
    assert output.index("test/kite/0.png") < output.index("train/cat/1.png")
    assert "'zero_shot'" in shipyard(repo, "words", "zero_shot")
    assert "'kite.png'" in shipyard(repo, "words", "ship", "--image", "kite.png")


def shipyard(repo: Path, *args: str) -> str:
    """Return what `shipyard` prints, whether it fails or not."""
    return run(repo, "python", "-m", "pipeline", *args, check=False)


# The stages that a change of a parameter makes stale by itself. Stages that depend on them follow if outputs change.
STALE = {
    "methods.coop.epochs": {
        "fit@mine-base_to_new-coop",
        "fit_synthetic@mine-base_to_new-ship-coop",
        "report",
    },
    "methods.tip_adapter.alpha_points": {"fit@mine-base_to_new-tip_adapter", "report"},
    "generators.ship.epochs": {
        "train_generator@mine-base_to_new-ship",
        "synthesize@mine-base_to_new-ship",
        "evaluate_generator@mine-base_to_new-ship",
        "report",
    },
    "synthesis.per_class": {"synthesize@mine-base_to_new-ship", "evaluate_generator@mine-base_to_new-ship", "report"},
    "visualization.classes": {"visualize_features@mine-base_to_new-ship", "report"},
    "tasks.base_to_new.shots": {"code", "build_task@mine-base_to_new", "report"},
    "extract.views": {"extract@mine", "report"},
    "text_tower.precision": {
        "train_generator@mine-base_to_new-ship",
        "synthesize@mine-base_to_new-ship",
        "evaluate_generator@mine-base_to_new-ship",
        *(f"fit@mine-base_to_new-{method}" for method in PARAMS["grid"]["methods"]),
        "fit_synthetic@mine-base_to_new-ship-coop",
        *(f"evaluate@mine-base_to_new-{method}" for method in PARAMS["grid"]["methods"]),
        "evaluate_synthetic@mine-base_to_new-ship-coop",
        "report",
    },
    "compute.batch": set(),
    "compute.shards": set(),
    "compute.workers": set(),
    "extract.engine": set(),
    "extract.on_bad_image": {"extract@mine", "report"},
    "data.root": set(),
}
VALUES = {
    "compute.shards": "s3://bucket/prefix",
    "data.root": "elsewhere",
    "extract.engine": "ray",
    "extract.on_bad_image": "skip",
    "text_tower.precision": "bfloat16",
}


@pytest.mark.parametrize("key", STALE)
def test_a_parameter_makes_stale_exactly_the_stages_that_read_it(
    repo: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvc.repo import Repo  # takes a second to import

    *path, last = key.split(".")
    block: dict[str, Any] = PARAMS
    for part in path:
        block = block[part]
    value = VALUES.get(key) or block[last] + 1

    # `dvc status`, in this process because there are many keys. It names stages relative to the current folder.
    monkeypatch.chdir(repo)
    with changed_params(repo, key, value), Repo() as dvc:
        status = dvc.status()
    stale = {stage for stage, reasons in status.items() if any("changed deps" in reason for reason in reasons)}
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
    # If the fitted classifier comes out the same, it is not evaluated again.
    assert ran(output) - {"evaluate@mine-base_to_new-tip_adapter"} == {
        "fit@mine-base_to_new-tip_adapter",
        "report",
    }
    assert ran(run(repo, "dvc", "repro")) == set(), "the results of the old parameters are in the run cache"


def test_of_a_run_and_a_dvc_repro_at_once_one_goes_on_and_the_other_waits_or_says_what_blocks_it(repo: Path) -> None:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo)}
    (repo / RUN_OWNER).unlink(missing_ok=True)
    with changed_params(repo, "methods.coop.epochs", 3):
        pipe = subprocess.PIPE
        with subprocess.Popen(["shipyard", "run"], cwd=repo, env=env, stdout=pipe, stderr=pipe, text=True) as first:
            while not (repo / RUN_OWNER).exists():  # written once the run holds its lock
                assert first.poll() is None, first.communicate()
                time.sleep(0.01)
            second = subprocess.run(["dvc", "repro"], cwd=repo, env=env, capture_output=True, text=True, check=False)
            ends = {first.wait(): first.communicate()[1], second.returncode: second.stderr}

        assert 0 in ends
        assert all("blocked by" in error or "acquire lock" in error for status, error in ends.items() if status)
        run(repo, "shipyard", "run")
        assert ran(run(repo, "dvc", "repro")) == set()
    assert ran(run(repo, "dvc", "repro")) == set(), "the results of the old parameters are in the run cache"


def test_a_class_is_added_by_its_name_alone_and_no_image_is_opened(repo: Path) -> None:
    names = repo / "classes/mine.txt"
    before = names.read_text(encoding="utf-8")
    all_stages = set(lock(repo))
    names.write_text(f"{before}barn owl\n", encoding="utf-8")
    try:
        output = run(repo, "dvc", "repro")
        (shard,) = (repo / "artifacts/tiny/synthetic/mine/base_to_new/ship/seed=1").glob("*.parquet")
        assert "barn owl" in pq.read_table(shard)["class_name"].to_pylist()
    finally:
        names.write_text(before, encoding="utf-8")
    assert all_stages - ran(output) == {"code", "extract@mine", "text_tower"}
    assert ran(run(repo, "dvc", "repro")) == set(), "the results without the name are in the run cache"


@pytest.mark.parametrize(
    "stage",
    [
        "build_task@mine-base_to_new",
        "synthesize@mine-base_to_new-ship",
        "evaluate_generator@mine-base_to_new-ship",
        "visualize_features@mine-base_to_new-ship",
        "evaluate@mine-base_to_new-coop",
        "fit@mine-base_to_new-coop",
        "extract@mine",
    ],
)
def test_the_same_inputs_give_the_same_bytes(repo: Path, stage: str) -> None:
    before = lock(repo)[stage]
    run(repo, "dvc", "repro", "--force", "--single-item", stage)
    after = lock(repo)[stage]
    assert after["outs"] == before["outs"]


def test_a_stage_that_fails_reports_why_and_leaves_the_rest_as_it_was(repo: Path) -> None:
    with changed_params(repo, "tasks.base_to_new.shots", 99):
        output = run(repo, "dvc", "repro", check=False)
    assert re.search(r"\b99\b.*'cat' has 3", output, re.DOTALL)
    assert "Traceback" not in output
    assert ran(run(repo, "dvc", "repro")) <= {"build_task@mine-base_to_new"}


CELL = ["--dataset", "mine", "--task", "base_to_new"]
LONG = {
    "train_generator": ([*CELL, "--generator", "ship"], ("generators", "ship"), "generators/mine/base_to_new/ship"),
    "fit": ([*CELL, "--method", "coop"], ("methods", "coop"), "fitted/mine/base_to_new/coop"),
}


@pytest.mark.parametrize("stage", LONG)
def test_ctrl_c_keeps_the_old_outputs_and_names_the_command_that_continues(repo: Path, stage: str) -> None:
    options, (kind, name), out = LONG[stage]
    folder = repo / "artifacts/tiny" / out
    before = {path: path.read_bytes() for path in folder.iterdir()}
    part = part_path(folder)
    env = {**os.environ, "PYTHONPATH": str(repo), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"stages.{stage}", *options]

    with changed_params(repo, f"{kind}.{name}.epochs", 10**6):
        child = subprocess.Popen(command, cwd=repo, env=env, stderr=subprocess.PIPE, text=True)
        try:
            limit = time.monotonic() + 60
            while not part.exists():  # the stage has not begun to work
                assert child.poll() is None
                assert time.monotonic() < limit
                time.sleep(0.1)
            child.send_signal(signal.SIGINT)
            _, stderr = child.communicate(timeout=60)
        finally:
            child.kill()

    assert child.returncode == 130
    assert "`dvc repro`" in stderr
    assert "Traceback" not in stderr
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert not part.exists()


def test_the_readmes_everyday_commands_run(repo: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = readme.partition("## Everyday commands")[2].partition("```sh\n")[2].partition("```")[0]
    commands = [line.partition("#")[0].split() for line in block.splitlines()]
    assert [command[0] for command in commands] == ["source", *["shipyard"] * 5, *["dvc"] * 4]
    for command in commands[1:]:
        run(repo, *(word.replace("twemoji", "mine").replace("liteclip", "tiny") for word in command))


def test_the_command_of_the_page_on_the_latent_runs(repo: Path) -> None:
    page = (ROOT / "docs/latent.md").read_text(encoding="utf-8")
    (command,) = (shlex.split(line) for line in re.findall(r"^shipyard features .*$", page, re.M))
    printed = run(repo, *command[:-1], "artifacts/tiny/features/mine.zarr")
    within, total, weight = map(float, re.findall(r"\d\.\d{4}", printed))
    assert min(within, total) > 0
    assert weight == pytest.approx(2 * within, abs=2e-4)


def test_the_commands_on_features_of_the_page_on_sharing_run(repo: Path) -> None:
    page = (ROOT / "docs/share.md").read_text(encoding="utf-8")
    commands = [shlex.split(line, comments=True) for line in re.findall(r"^shipyard features .*$", page, re.M)]
    assert [command[2] for command in commands] == ["info", "verify", "diff", "export", "import"]
    features = "artifacts/tiny/features"
    shutil.copytree(repo / features, repo.parent / "other" / features)
    for command in commands:
        words = ["again" if word == "mine" else word for word in command]
        run(repo, *(word.replace("twemoji", "mine").replace("liteclip", "tiny") for word in words))

    again = repo / features / "again.zarr"
    differences = shipyard(repo, "features", "diff", str(again), str(repo / features / "mine.zarr"))
    assert re.fullmatch(r"index_sha256: .*\n", differences), "an import keeps everything but the list of image files"
    shutil.rmtree(again)
    for index in (repo / "artifacts/index").glob("again.*"):
        index.unlink()
    assert ran(run(repo, "dvc", "repro")) == set()


def test_results_and_parameters_compare_with_a_commit(repo: Path) -> None:
    run(repo, "git", "add", "-A")
    run(repo, "git", "-c", "user.name=A", "-c", "user.email=a@b.c", "commit", "-qm", "Results")
    leaderboard = csv.reader(run(repo, "dvc", "exp", "show", "--csv").splitlines())
    assert any(column.endswith("mine/base_to_new/coop+ship.json:H") for column in next(leaderboard))

    metrics = repo / "artifacts/tiny/report/metrics/mine/base_to_new/coop.json"
    before = metrics.read_text(encoding="utf-8")
    metrics.write_text(re.sub(r'"H": *[\d.]+', '"H": 12.5', before), encoding="utf-8")
    try:
        with changed_params(repo, "methods.coop.epochs", 5):
            params_diff = json.loads(run(repo, "dvc", "params", "diff", "--json"))
            metrics_diff = json.loads(run(repo, "dvc", "metrics", "diff", "--json"))
            assert "index.html" in run(repo, "dvc", "plots", "diff")
    finally:
        metrics.write_text(before, encoding="utf-8")

    assert params_diff["params.yaml"] == {"methods.coop.epochs": {"old": 2, "new": 5, "diff": 3}}
    changed = {path: set(values) for path, values in metrics_diff.items()}
    assert changed == {metrics.relative_to(repo).as_posix(): {"H"}}
    quiet = run(repo, "shipyard", "run", "-q")
    assert quiet.lstrip().startswith("Encoder tiny"), "-q prints the results only"


def test_images_that_changed_are_named_and_indexed_by_the_next_run(
    reproduced_repo: Path, warm_path: None, tmp_path: Path
) -> None:
    repo = copy_repo(reproduced_repo, tmp_path / "repo")
    assert "changed since" not in shipyard(repo, "check")
    shutil.copy(next(repo.glob("data/mine/train/cat/*")), repo / "data/mine/train/cat/added.png")
    assert "1 added (train/cat/added.png)" in shipyard(repo, "check")
    assert "1 added (train/cat/added.png)" in shipyard(repo, "doctor")
    output = shipyard(repo, "run")
    assert "1 added (train/cat/added.png)" in output
    assert "1 image is a copy" in output
    assert "extract@mine" in ran(output)
    assert "changed since" not in shipyard(repo, "check")
