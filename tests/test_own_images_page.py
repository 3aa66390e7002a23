"""docs/own_images.md, done: every command of the page, in its order, in a real repository with few small pictures."""

from __future__ import annotations

import copy
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from pages import commands
from pictures import picture
from small_repo import PARAMS, ROOT, lock, make_repo, ran, run, warm_path
from typer.testing import CliRunner

from pipeline.cli import app as cli

PAGE = (ROOT / "docs/own_images.md").read_text(encoding="utf-8")
COMMANDS = commands(ROOT / "docs/own_images.md")


@dataclass
class Done:
    """What each command printed when it ran first, and what `dvc repro` printed each time."""

    folder: Path
    said: dict[str, str] = field(default_factory=dict)
    repros: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    """Every command of the page, after each other, but for the one that installs."""
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    with pytest.MonkeyPatch.context() as patch, warm_path():
        made = Done(repository(tmp_path_factory.mktemp("repo")))
        patch.chdir(made.folder)
        patch.setattr(cli, "repro", lambda: made.repros.append(run(made.folder, "dvc", "repro")))
        for line in COMMANDS:
            if line.startswith("shipyard "):
                result = CliRunner().invoke(cli.app, shlex.split(line)[1:])
                assert result.exit_code == 0, f"{line}: {result.exception or result.output}"
                made.said.setdefault(line, result.stdout)
            elif not line.startswith("pip install"):
                subprocess.run(line, shell=True, check=True)  # noqa: S602 (a line of our own page)
        yield made


def repository(folder: Path) -> Path:
    """One in which nothing has run, with what the page assumes: photos/birds, photos/new, names.txt."""
    params = copy.deepcopy(PARAMS)
    params["grid"] |= {"methods": ["zero_shot", "tip_adapter"], "synthetic_methods": ["tip_adapter"], "seeds": [1]}
    made = make_repo(folder, params)
    flow = yaml.safe_dump(params, default_flow_style=None)  # a list on one line, as the shipped file has it
    (made / "params.yaml").write_text(flow, encoding="utf-8")
    for number, name in enumerate(("kestrel", "tern", "wren")):
        (made / "photos/birds" / name).mkdir(parents=True)
        for i in range(8 if name == "wren" else 16):
            picture(10 * number + i).save(made / f"photos/birds/{name}/{i}.jpg")
    (made / "photos/new").mkdir()
    picture(99).save(made / "photos/new/1.jpg")
    (made / "names.txt").write_text("barn owl\nwren\n", encoding="utf-8")
    return made


def test_a_task_is_made_of_folders_and_names(done: Done) -> None:
    said = done.said["shipyard task new mybirds --images photos/birds --unseen names.txt"]
    assert "2 classes from their names alone, with 8 images" in said
    assert "tasks.mybirds_proxy" in said


def test_the_run_judges_on_test_images_and_chooses_by_the_rehearsal_alone(done: Done) -> None:
    results, choice = done.said["shipyard run mybirds"].split("\nmybirds: for new images ")
    assert "\nmybirds, mybirds\n" in results
    assert "mybirds_proxy" not in results.partition("Encoder tiny")[2]
    assert re.findall(r"^  (\S+?)  ", choice, re.M) == ["zero_shot", "tip_adapter", "tip_adapter+ship"]
    found = json.loads((done.folder / "artifacts/tiny/selection/mybirds/mybirds.json").read_text(encoding="utf-8"))
    assert choice.startswith(f"`{found['run']}`, seed 1, is chosen by a rehearsal\n")
    assert set(found["images"]) == {"seen", "unseen"}
    best = {run["run"]: run["score"] for run in found["runs"]}
    assert best["tip_adapter"] is None, "it has no image of the classes that were only named"
    assert best[found["run"]] == max(score for score in best.values() if score is not None)


def test_predictions_are_told_and_written(done: Done) -> None:
    assert done.said["shipyard predict mybirds photos/new"].startswith("photos/new/1.jpg")
    assert (done.folder / "found.html").is_file()
    rows = (done.folder / "found.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + 3 * (2 * 16 + 8 + 1)


def test_a_class_that_comes_later_opens_no_image_trains_no_generator_and_repeats_no_proxy(done: Done) -> None:
    assert '"kingfisher"' in (done.folder / "artifacts/index/mybirds.json").read_text(encoding="utf-8")
    first, second = map(ran, done.repros)
    assert first == set(lock(done.folder))
    rehearsed = {stage for stage in first if "validation_proxy" in stage and not stage.startswith("build_task@")}
    once = {"extract@mybirds", "text_tower", "train_generator@mybirds-mybirds-ship", "select@mybirds-mybirds"}
    assert first - second == once | rehearsed
    assert len(rehearsed) == 4 + 2 * 3  # of the generator, and fitting and judging three runs


def test_the_export_knows_every_class(done: Done) -> None:
    session = pytest.importorskip("onnxruntime").InferenceSession(
        done.folder / "mybirds.onnx", providers=["CPUExecutionProvider"]
    )
    told = json.loads(session.get_modelmeta().custom_metadata_map["shipyard"])
    assert told["classes"] == ["kestrel", "tern", "wren", "barn owl", "kingfisher"]
    assert told["seen"] == [True, True, False, False, False]


def test_the_page_is_short_and_every_command_of_it_was_run(done: Done) -> None:
    assert len(PAGE.splitlines()) <= 120
    assert len(COMMANDS) == len(re.findall(r"^(?:shipyard|echo|pip) ", PAGE, re.M)), "a command of another kind"
    assert set(done.said) == {line for line in COMMANDS if line.startswith("shipyard ")}


def test_the_readmes_lines_are_those_of_the_page(done: Done) -> None:
    lines = [line for line in commands(ROOT / "README.md") if "mybirds" in line]
    said = [line.replace("DIR", "photos/birds").replace("photo.jpg", "photos/new/1.jpg") for line in lines]
    assert said[:-1] == COMMANDS[:2]
    result = CliRunner().invoke(cli.app, shlex.split(said[-1])[1:])
    assert result.exit_code == 0
    assert result.stdout.startswith("photos/new/1.jpg")
