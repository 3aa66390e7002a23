"""Run every command of docs/own_images.md, in its order, in a real repository with a few small pictures."""

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
from small_repo import PARAMS, ROOT, lock, make_repo, ran, run
from typer.testing import CliRunner

from pipeline.cli import app as cli

pytestmark = pytest.mark.system  # every command of a page, and the ONNX exporter

PAGE = (ROOT / "docs/own_images.md").read_text(encoding="utf-8")
COMMANDS = commands(ROOT / "docs/own_images.md")


@dataclass
class PageRun:
    """Output of the first run of each command, and of each `dvc repro`."""

    folder: Path
    outputs: dict[str, str] = field(default_factory=dict)
    repros: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def done(warm_path: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageRun]:
    """Run all commands of the page one after another, except the one that installs."""
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    with pytest.MonkeyPatch.context() as patch:
        page_run = PageRun(repository(tmp_path_factory.mktemp("repo")))
        patch.chdir(page_run.folder)
        patch.setattr(cli, "repro", lambda *_: page_run.repros.append(run(page_run.folder, "dvc", "repro")))
        for line in COMMANDS:
            if line.startswith("shipyard "):
                result = CliRunner().invoke(cli.app, shlex.split(line)[1:])
                assert result.exit_code == 0, f"{line}: {result.exception or result.output}"
                page_run.outputs.setdefault(line, result.stdout)
            elif not line.startswith("pip install"):
                subprocess.run(line, shell=True, check=True)  # noqa: S602 (a line of our own page)
        yield page_run


def repository(folder: Path) -> Path:
    """Create a repository in which nothing has run, with the files that the page assumes: photos, names.txt."""
    params = copy.deepcopy(PARAMS)
    params["grid"] |= {"methods": ["zero_shot", "tip_adapter"], "synthetic_methods": ["tip_adapter"], "seeds": [1]}
    repo = make_repo(folder, params)
    flow = yaml.safe_dump(params, default_flow_style=None)  # a list on one line, as the shipped file has it
    (repo / "params.yaml").write_text(flow, encoding="utf-8")
    for number, name in enumerate(("kestrel", "tern", "wren")):
        (repo / "photos/birds" / name).mkdir(parents=True)
        for i in range(8 if name == "wren" else 16):
            picture(10 * number + i).save(repo / f"photos/birds/{name}/{i}.jpg")
    (repo / "photos/new").mkdir()
    picture(99).save(repo / "photos/new/1.jpg")
    (repo / "names.txt").write_text("barn owl\nwren\n", encoding="utf-8")
    return repo


def test_a_task_is_created_from_folders_and_names(done: PageRun) -> None:
    output = done.outputs["shipyard task new mybirds --images photos/birds --unseen names.txt"]
    assert re.search(r"\b2 classes .*\b8 test images", output), "two unseen classes, with 8 test images"
    assert "tasks.mybirds" in output


def test_the_run_is_evaluated_on_test_images_and_selected_only_on_validation_images(done: PageRun) -> None:
    results, _, selection = done.outputs["shipyard run mybirds"].rpartition("\nmybirds: ")
    assert "\nmybirds\n" in results
    assert re.findall(r"^  (\S+?)  ", selection, re.M) == ["zero_shot", "tip_adapter+ship"]
    saved = json.loads((done.folder / "artifacts/tiny/selection/mybirds/mybirds.json").read_text(encoding="utf-8"))
    first_line = selection.partition("\n")[0]
    assert f"`{saved['run']}`" in first_line
    assert "seed 1" in first_line
    assert saved["images"] > 0
    best = {run["run"]: run["score"] for run in saved["runs"]}
    assert best["tip_adapter"] is None, "it has no images of the unseen classes"
    assert best[saved["run"]] == max(score for score in best.values() if score is not None)


def test_predictions_are_printed_and_written(done: PageRun) -> None:
    assert done.outputs["shipyard predict mybirds photos/new"].startswith("photos/new/1.jpg")
    assert (done.folder / "found.html").is_file()
    rows = (done.folder / "found.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + 2 * 16 + 8 + 1


def test_adding_a_class_opens_no_image_and_trains_no_generator(done: PageRun) -> None:
    assert '"kingfisher"' in (done.folder / "artifacts/index/mybirds.json").read_text(encoding="utf-8")
    first, second = map(ran, done.repros)
    assert first == set(lock(done.folder))
    generator = {f"{stage}@mybirds-mybirds-ship" for stage in ("train_generator", "synthesize_folds")}
    assert first - second == {"code", "extract@mybirds", "text_tower", *generator}


def test_the_export_knows_every_class(done: PageRun) -> None:
    session = pytest.importorskip("onnxruntime").InferenceSession(
        done.folder / "mybirds.onnx", providers=["CPUExecutionProvider"]
    )
    metadata = json.loads(session.get_modelmeta().custom_metadata_map["shipyard"])
    assert metadata["classes"] == ["kestrel", "tern", "wren", "barn owl", "kingfisher"]
    assert metadata["seen"] == [True, True, False, False, False]


def test_the_page_is_short_and_every_command_of_it_was_run(done: PageRun) -> None:
    assert len(PAGE.splitlines()) <= 120
    assert len(COMMANDS) == len(re.findall(r"^(?:shipyard|echo|pip) ", PAGE, re.M)), "a command of another kind"
    assert set(done.outputs) == {line for line in COMMANDS if line.startswith("shipyard ")}


def test_the_readmes_lines_are_those_of_the_page(done: PageRun) -> None:
    lines = [line for line in commands(ROOT / "README.md") if "mybirds" in line]
    with_paths = [line.replace("DIR", "photos/birds").replace("photo.jpg", "photos/new/1.jpg") for line in lines]
    assert with_paths[:-1] == COMMANDS[:2]
    result = CliRunner().invoke(cli.app, shlex.split(with_paths[-1])[1:])
    assert result.exit_code == 0
    assert result.stdout.startswith("photos/new/1.jpg")
