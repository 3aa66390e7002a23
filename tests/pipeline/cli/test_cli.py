"""The `shipyard` command: help, checks before work, and the output of failed and interrupted runs."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from project_root import ROOT
from typer.main import get_command
from typer.testing import CliRunner, Result

from features.errors import InputError
from pipeline.cli import app as cli
from pipeline.cli import run
from pipeline.config import params
from pipeline.executor import repro as running

SHIPPED = (ROOT / "params.yaml").read_text(encoding="utf-8")
COMMANDS = [
    *(
        ["run"],
        ["check"],
        ["report"],
        ["words"],
        ["doctor"],
        ["verify"],
        ["merge-lock"],
        ["encoders", "list"],
        ["task", "new"],
        ["task", "check"],
        ["predict"],
        ["serve"],
        ["export"],
        ["data", "list"],
        ["data", "get"],
    ),
    *(
        ["features", command]
        for command in ("info", "covariance", "verify", "diff", "export", "import", "import-texts")
    ),
]
SLOW = """
import time
from pathlib import Path

try:
    Path("started").touch()
    time.sleep(60)
except KeyboardInterrupt:
    Path("ended").touch()
    raise SystemExit(130)
"""
LOADING = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == "pipeline.cli.app":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
from pipeline.__main__ import main

main()
"""
SHIPYARD = [sys.executable, "-c", "from pipeline.cli.app import main; main()"]


def call(*args: str) -> Result:
    return CliRunner().invoke(cli.app, args)


def start(*args: str, cwd: Path, **options: bool) -> subprocess.Popen[str]:
    """Start the command as a process in another folder."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*SHIPYARD, *args], cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the shipped params.yaml, in which no stage is run."""
    (tmp_path / "params.yaml").write_text(SHIPPED, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.setattr(cli, "repro", lambda _jobs, _engine: print("(repro)"))
    monkeypatch.setattr(cli, "report", lambda: print("(results)"))
    return tmp_path


@pytest.fixture
def pipeline_of(tmp_path: Path) -> Path:
    """Return a real DVC project; the test writes its only stage."""
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_bytes((ROOT / ".dvc/config").read_bytes())
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    (tmp_path / "params.yaml").write_text(SHIPPED, encoding="utf-8")
    return tmp_path


def stage(project: Path, code: str) -> None:
    (project / "stage.py").write_text(code, encoding="utf-8")
    (project / "dvc.yaml").write_text("stages:\n  one:\n    cmd: python stage.py\n    outs: [out]\n", encoding="utf-8")


def test_help_lists_every_command_in_a_panel() -> None:
    text = call("--help").output
    contents = text[text.index("Results:") :]
    for name in get_command(cli.app).commands:  # type: ignore[attr-defined]
        assert re.search(rf"^  {name}  ", contents, re.MULTILINE), f"{name} has no panel"
    assert "..." not in contents, "the description of a command is truncated"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_has_an_example(command: Sequence[str]) -> None:
    result = call(*command, "--help")
    assert result.exit_code == 0
    assert f"\n    shipyard {' '.join(command)}" in result.output


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_example_can_be_parsed(command: Sequence[str]) -> None:
    lines = re.findall(r"^ +shipyard (.*)", call(*command, "--help").output, re.MULTILINE)
    for line in lines:
        leaf, words = get_command(cli.app), shlex.split(line)
        while words and words[0] in getattr(leaf, "commands", ()):
            leaf = leaf.commands[words.pop(0)]  # type: ignore[attr-defined]
        leaf.make_context("shipyard", words)  # parses without running


def test_every_command_is_listed_in_this_file() -> None:
    top = get_command(cli.app)
    names = set(top.commands)  # type: ignore[attr-defined]
    assert names == {command[0] for command in COMMANDS}


def test_version() -> None:
    assert call("--version").output == "shipyard 0.1.0\n"


def test_an_unknown_command_gets_a_suggestion() -> None:
    result = call("rnu")
    assert result.exit_code == 2
    assert "run" in result.output


def test_run_writes_the_changes_and_prints_the_results(project: Path) -> None:
    (project / "artifacts/index").mkdir(parents=True)
    (project / "artifacts/index/caltech101.parquet").touch()
    result = call("run", "caltech101", "--set", "data.root=elsewhere")
    assert result.output.splitlines() == [
        "params.yaml: grid.datasets: [twemoji] -> [caltech101]",
        "params.yaml: data.root: data -> elsewhere",
        "(repro)",
        "(results)",
    ]
    text = (project / "params.yaml").read_text(encoding="utf-8")
    assert len(text.splitlines()) == len(SHIPPED.splitlines())
    assert "  datasets: [caltech101]" in text


def test_own_images_run_with_their_task_and_another_data_set_resets_the_grid(project: Path) -> None:
    for name in ("tern", "wren"):
        (project / "photos" / name).mkdir(parents=True)
        for i in range(20):
            (project / f"photos/{name}/{i}.jpg").touch()
    assert call("task", "new", "mybirds", "--images", "photos").exit_code == 0
    before = params.load()
    result = call("run", "mybirds")
    *changes, cost, repro, results = result.output.splitlines()[:6]
    assert changes == [
        "params.yaml: grid.datasets: [twemoji] -> [mybirds]",
        "params.yaml: grid.tasks: [base_to_new] -> [mybirds]",
        "params.yaml: grid.select: [] -> [mybirds]",
    ]
    assert cost.startswith("grid.select: 42 "), "two folds x three seeds x (six runs and one generator)"
    assert (repro, results) == ("(repro)", "(results)")
    assert result.exception is None
    alone = call("run", "--set", "grid.datasets=[twemoji]")
    assert "tasks.mybirds: " in str(alone.exception)
    assert "--set 'grid.tasks=[base_to_new]'" in str(alone.exception)
    assert call("run", "twemoji").output.splitlines() == [
        "params.yaml: grid.datasets: [mybirds] -> [twemoji]",
        "params.yaml: grid.tasks: [mybirds] -> [base_to_new]",
        "params.yaml: grid.select: [mybirds] -> []",
        "(repro)",
        "(results)",
    ]
    assert params.load() == before
    call("run", "mybirds")
    (project / "other.yaml").write_text("title: x\nsettings: {grid.tasks: [base_to_new], grid.datasets: [twemoji]}\n")
    assert call("run", "--recipe", "other.yaml").exception is None
    assert params.load() == before
    call("run", "mybirds")
    (project / "more.yaml").write_text("title: x\nsettings: {grid.tasks: [class_incremental]}\n")
    assert call("run", "twemoji", "--recipe", "more.yaml").exception is None
    assert params.load().grid.tasks == ["class_incremental"], "the tasks of the recipe"


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["twemojis"], ["'twemojis'", "`data.sets`", "'twemoji'?"]),
        (["--set", "grid.encoder=vit"], ["'vit'", "`encoders`"]),
        (["--set", "methods.coop.epochs=many"], ["methods.coop", "epochs:", "'many'"]),
        (["--set", "methods.coop.epoch=1"], ["'epoch'", "methods.coop", "'epochs'?"]),
        (["--set", "grid.seeds"], ["'grid.seeds'"]),
        (["caltech101"], ["caltech101", "data/caltech-101"]),
        (["caltech101", "twemoji", "--set", "data.root=../nowhere"], ["../nowhere"]),
    ],
)
def test_a_mistake_changes_and_runs_nothing(project: Path, args: list[str], parts: list[str]) -> None:
    result = call("run", *args)
    assert isinstance(result.exception, InputError)
    message = str(result.exception)
    assert [part for part in parts if part not in message] == []
    assert "(repro)" not in result.output
    assert (project / "params.yaml").read_text(encoding="utf-8") == SHIPPED


def test_a_data_set_can_be_run_after_that_of_the_grid_was_removed(project: Path) -> None:
    text = params.read()
    params.write(text.replace("datasets: [twemoji]", "datasets: [removed]"))
    assert call("run", "twemoji").exception is None
    assert params.read() == text


def test_each_run_of_a_recipe_is_saved(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = "title: epochs\nsettings: {grid.seeds: [1]}\nruns: [{methods.coop.epochs: 1}, {methods.coop.epochs: 2}]\n"
    (project / "mine.yaml").write_text(recipe, encoding="utf-8")
    monkeypatch.setattr(run, "keep", lambda name: print(f"(keep {name})"))
    result = call("run", "--recipe", "mine.yaml", "--set", "methods.coop.batch=8")
    assert result.output.splitlines() == [
        "params.yaml: grid.seeds: [1, 2, 3] -> [1]",
        "params.yaml: methods.coop.epochs: null -> 1",
        "params.yaml: methods.coop.batch: null -> 8",
        "(repro)",
        "(results)",
        "(keep mine-1)",
        "params.yaml: methods.coop.epochs: 1 -> 2",
        "(repro)",
        "(results)",
        "(keep mine-2)",
    ]


def test_weights_are_compared_before_the_stages_and_after_them(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "check_weights", lambda _: print("(weights)"))
    assert call("run").output.splitlines() == ["(weights)", "(repro)", "(weights)", "(results)"]


def test_a_mistake_in_the_last_run_of_a_recipe_stops_the_first(project: Path) -> None:
    recipe = "title: epochs\nsettings: {}\nruns: [{methods.coop.epochs: 1}, {methods.coop.epochs: many}]\n"
    (project / "mine.yaml").write_text(recipe, encoding="utf-8")
    result = call("run", "--recipe", "mine.yaml")
    assert re.search(r"epochs: .*'many'", str(result.exception))
    assert "(repro)" not in result.output


def test_a_mistake_in_a_recipe_names_the_recipe(project: Path) -> None:
    (project / "mine.yaml").write_text("title: seeds\nsettings: {grid.sedes: [1]}\n", encoding="utf-8")
    assert "mine.yaml" in str(call("run", "--recipe", "mine.yaml").exception)
    assert "mine.yaml" not in str(call("run", "--set", "grid.sedes=1").exception)


def test_indexed_images_are_not_needed(project: Path) -> None:
    (project / "artifacts/index").mkdir(parents=True)
    (project / "artifacts/index/caltech101.parquet").touch()
    assert "(repro)" in call("run", "caltech101").output


@pytest.mark.parametrize("command", [["run", "caltech101", "dtd"], ["check"]])
def test_problems_of_all_data_sets_are_reported_before_anything_starts(command: list[str], project: Path) -> None:
    (project / "data/caltech-101/101_ObjectCategories").mkdir(parents=True)
    (project / "params.yaml").write_text(SHIPPED.replace("datasets: [twemoji]", "datasets: [caltech101, dtd]"))
    result = call(*command)
    assert isinstance(result.exception, InputError)
    assert "- accordion/image_0001.jpg" in str(result.exception)
    assert "data/dtd" in str(result.exception)
    assert not result.output


def test_check_prints_the_number_of_runs(project: Path) -> None:
    assert call("check").output == "params.yaml is valid: 6 runs x 3 seeds, encoder liteclip\n"


def test_repro_runs_the_stages_with_this_python(pipeline_of: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(pipeline_of, "import sys; open('out', 'w').write(sys.prefix)")
    monkeypatch.chdir(pipeline_of)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    running.repro()
    assert (pipeline_of / "out").read_text(encoding="utf-8") == sys.prefix


def test_a_saved_run_is_an_experiment(pipeline_of: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(pipeline_of, "open('out', 'w').write('1')")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
    subprocess.run(["git", "add", "-A"], cwd=pipeline_of, check=True)
    subprocess.run(["git", *identity, "commit", "-qm", "start"], cwd=pipeline_of, check=True)
    monkeypatch.chdir(pipeline_of)
    running.repro()
    running.keep("mine-1")
    refs = subprocess.run(["git", "for-each-ref", "refs/exps"], cwd=pipeline_of, check=True, capture_output=True)
    assert "/mine-1\n" in refs.stdout.decode()


def test_a_failed_stage_ends_with_the_command_that_continues(pipeline_of: Path) -> None:
    stage(pipeline_of, "raise SystemExit('error: the disk is full')")
    process = start("run", cwd=pipeline_of)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: the disk is full" in errors
    last = errors.rstrip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "`shipyard run`" in last
    assert "Traceback" not in errors


def test_ctrl_c_waits_for_the_stage_and_prints_how_to_continue(pipeline_of: Path) -> None:
    stage(pipeline_of, SLOW)
    process = start("run", cwd=pipeline_of, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (pipeline_of / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole process group
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (pipeline_of / "ended").exists(), "the stage was killed before it could clean up"
    assert errors.rstrip().splitlines()[-1].startswith("interrupted: ")
    assert "kept" in errors
    assert "continue" in errors
    assert "Traceback" not in errors


def test_ctrl_c_in_task_new_writes_nothing(pipeline_of: Path) -> None:
    os.mkfifo(pipeline_of / "names.txt")
    process = start("task", "new", "mine", "--images", "photos", "--unseen", "names.txt", cwd=pipeline_of)
    with (pipeline_of / "names.txt").open("w"):  # the command waits for names
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith("interrupted: ")
    assert len(errors.splitlines()) == 1
    assert "start over" in errors
    assert (pipeline_of / "params.yaml").read_text(encoding="utf-8") == SHIPPED
    assert not (pipeline_of / "classes").exists()


def test_ctrl_c_during_imports_prints_one_line() -> None:
    command = [sys.executable, "-c", LOADING]
    process = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False)
    assert (process.returncode, process.stderr) == (130, b"interrupted: nothing was started\n")


def test_report_before_any_run_names_the_command(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(project)
    result = call("report")
    assert isinstance(result.exception, InputError)
    assert "`shipyard run`" in str(result.exception)


def completed(*words: str) -> list[str]:
    """Return the completions that bash gets for the last word."""
    env = {"_SHIPYARD_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    process = subprocess.run(
        [sys.executable, "-c", "from pipeline.cli.app import app; app(prog_name='shipyard')"],
        env={**os.environ, **env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return process.stdout.split()


def test_the_shell_completes_commands_data_sets_and_tasks(project: Path) -> None:
    assert {"predict", "export"} <= {*completed("shipyard", "p"), *completed("shipyard", "ex")}
    assert "twemoji" in completed("shipyard", "run", "tw")
    text = SHIPPED.replace("\n  base_to_new:", "\n  twemoji: {protocol: own_images}\n  base_to_new:", 1)
    (project / "params.yaml").write_text(text, encoding="utf-8")
    assert completed("shipyard", "predict", "") == ["twemoji"]
    (project / "params.yaml").write_text("grid: [", encoding="utf-8")
    assert completed("shipyard", "predict", "") == []
