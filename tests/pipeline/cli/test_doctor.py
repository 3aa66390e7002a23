"""`shipyard doctor`: each thing that would stop a run is found, with its fix, and nothing else is a stop."""

from __future__ import annotations

import shutil
import subprocess
from collections import namedtuple
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from project_root import ROOT
from typer.testing import CliRunner

from pipeline.cli import doctor
from pipeline.cli.app import app
from pipeline.cli.doctor import Finding, examine

SHIPPED = (ROOT / "params.yaml").read_text(encoding="utf-8")
Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A healthy project: the shipped parameters and encoder in a git repository that has no commit."""
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    (tmp_path / "params.yaml").write_text(SHIPPED, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def findings() -> dict[str, Finding]:
    """Return every finding by its subject."""
    return {finding.about: finding for finding in examine()}


def change(project: Path, old: str, new: str) -> None:
    assert old in SHIPPED
    (project / "params.yaml").write_text(SHIPPED.replace(old, new), encoding="utf-8")


def test_a_healthy_project_has_no_stop(project: Path) -> None:
    by_subject = findings()
    assert [str(finding) for finding in by_subject.values() if finding.stops] == []
    assert {"python", "torch", "open_clip", "dvc", "git", "disk", "params", "device", "encoder"} <= set(by_subject)
    assert "data: twemoji" in by_subject
    assert by_subject["git"].state == "note", "there is no commit yet"
    assert "git commit" in by_subject["git"].fix
    assert all("\n" not in str(finding) for finding in by_subject.values())


def test_each_line_starts_with_the_state_and_a_stop_gives_status_1(project: Path) -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert all(line.split()[0] in ("ok", "note", "stop") for line in result.output.splitlines())
    (project / "params.yaml").unlink()
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 1


def test_the_commit_is_reported(project: Path) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *who, "commit", "-q", "--allow-empty", "-m", "first"], cwd=project, check=True)
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=project, text=True).strip()
    assert commit in findings()["git"].text


def test_a_folder_outside_git_is_a_stop(project: Path) -> None:
    shutil.rmtree(project / ".git")
    finding = findings()["git"]
    assert finding.stops
    assert "git init" in finding.fix


def test_missing_git_is_a_stop(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    assert findings()["git"].stops


@pytest.mark.parametrize("text", [None, "stages: [\n", "<<<<<<< HEAD\nstages: {}\n"])
def test_a_broken_dvc_yaml_is_a_stop(text: str | None, project: Path) -> None:
    (project / "dvc.yaml").write_text(text, encoding="utf-8") if text else (project / "dvc.yaml").unlink()
    assert findings()["dvc.yaml"].stops


def test_another_folder_is_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    by_subject = findings()
    assert by_subject["git"].stops
    assert by_subject["params"].stops
    assert "device" not in by_subject, "checks of settings need a params.yaml"


@pytest.mark.parametrize(("gigabytes", "state"), [(0.5, "stop"), (5, "note"), (500, "ok")])
def test_the_free_disk_space_decides_the_state(
    project: Path, monkeypatch: pytest.MonkeyPatch, gigabytes: float, state: str
) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: Usage(0, 0, int(gigabytes * 2**30)))
    assert findings()["disk"].state == state


def test_a_missing_package_is_a_stop(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "dvc":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor, "version", version)
    assert findings()["dvc"].stops
    assert "make setup" in findings()["dvc"].fix


def test_mistakes_in_params_are_reported(project: Path) -> None:
    change(project, "reduction: 4", "reduction: four")
    finding = findings()["params"]
    assert finding.stops
    assert "reduction: " in finding.text
    assert "'four'" in finding.text


def test_a_missing_gpu_is_a_stop(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    change(project, "device: auto", "device: cuda")
    finding = findings()["device"]
    assert finding.stops
    assert "cuda" in finding.text


def test_missing_data_are_a_stop_only_without_their_features(project: Path) -> None:
    change(project, "datasets: [twemoji]", "datasets: [caltech101]")
    finding = findings()["data: caltech101"]
    assert finding.stops
    assert "caltech-101" in finding.text
    (project / "artifacts/liteclip/features/caltech101.zarr").mkdir(parents=True)
    assert findings()["data: caltech101"].state == "note"


OPENAI = ("encoder: liteclip", "encoder: vit_b16")


@pytest.mark.parametrize(("online", "state"), [(True, "note"), (False, "stop")])
def test_missing_weights_are_a_stop_only_offline_and_are_not_downloaded(
    project: Path, monkeypatch: pytest.MonkeyPatch, online: bool, state: str
) -> None:
    monkeypatch.setattr(doctor, "_reachable", lambda _: online)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    change(project, *OPENAI)
    finding = findings()["encoder"]
    assert finding.state == state
    assert online or "https://" in finding.text or "Hugging Face" in finding.text


def test_missing_weights_are_no_stop_if_their_artifacts_exist(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_reachable", lambda _: False)
    change(project, *OPENAI)
    (project / "artifacts/vit_b16/features/twemoji.zarr").mkdir(parents=True)
    (project / "artifacts/vit_b16/text_tower.safetensors").touch()
    assert findings()["encoder"].state == "note"


def test_an_unknown_model_is_a_stop_with_the_nearest_name(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_reachable", lambda _: True)
    change(project, "model: ViT-B-16-quickgelu", "model: ViT-B-16-quikgelu")
    change_of_grid = (project / "params.yaml").read_text(encoding="utf-8").replace(*OPENAI)
    (project / "params.yaml").write_text(change_of_grid, encoding="utf-8")
    finding = findings()["encoder"]
    assert finding.stops
    assert "'ViT-B-16-quickgelu'?" in finding.text
