"""`shipyard doctor`: each thing that would stop a run is found, with its remedy, and nothing else stops it."""

from __future__ import annotations

import shutil
import subprocess
from collections import namedtuple
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app, doctor
from pipeline.cli.doctor import Finding, examine

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = (ROOT / "params.yaml").read_text(encoding="utf-8")
Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A healthy project: the shipped parameters and encoder in a git repository that has no commit."""
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    (tmp_path / "params.yaml").write_text(SHIPPED, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def findings() -> dict[str, Finding]:
    """What the doctor finds, by what it is about."""
    return {finding.about: finding for finding in examine()}


def change(project: Path, old: str, new: str) -> None:
    assert old in SHIPPED
    (project / "params.yaml").write_text(SHIPPED.replace(old, new), encoding="utf-8")


def test_healthy_project_is_not_stopped(project: Path) -> None:
    found = findings()
    assert [str(finding) for finding in found.values() if finding.stops] == []
    assert {"python", "torch", "open_clip", "dvc", "git", "disk", "params", "device", "encoder"} <= set(found)
    assert "data: twemoji" in found
    assert "no commit yet" in found["git"].text
    assert all("\n" not in str(finding) for finding in found.values())


def test_exit_status_and_lines(project: Path) -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert all(line.split()[0] in ("ok", "note", "stop") for line in result.output.splitlines())
    (project / "params.yaml").unlink()
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 1


def test_a_commit_is_named(project: Path) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *who, "commit", "-q", "--allow-empty", "-m", "first"], cwd=project, check=True)
    assert findings()["git"].text.startswith("at ")


def test_no_git_repository(project: Path) -> None:
    shutil.rmtree(project / ".git")
    finding = findings()["git"]
    assert finding.stops
    assert "git init" in finding.remedy


def test_no_git_at_all(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    assert findings()["git"].stops


def test_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = findings()
    assert found["git"].stops
    assert found["params"].stops
    assert "device" not in found, "what stands in params.yaml cannot be looked at"


@pytest.mark.parametrize(("gigabytes", "state"), [(0.5, "stop"), (5, "note"), (500, "ok")])
def test_disk(project: Path, monkeypatch: pytest.MonkeyPatch, gigabytes: float, state: str) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: Usage(0, 0, int(gigabytes * 2**30)))
    assert findings()["disk"].state == state


def test_missing_package(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "dvc":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor, "version", version)
    assert findings()["dvc"].stops
    assert "make setup" in findings()["dvc"].remedy


def test_mistakes_in_params_are_told(project: Path) -> None:
    change(project, "reduction: 4", "reduction: four")
    finding = findings()["params"]
    assert finding.stops
    assert "reduction: 'four' cannot be used" in finding.text


def test_missing_gpu(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    change(project, "device: auto", "device: cuda")
    finding = findings()["device"]
    assert finding.stops
    assert "auto or cpu" in finding.text


def test_missing_data_stop_only_who_has_no_features(project: Path) -> None:
    change(project, "datasets: [twemoji]", "datasets: [caltech101]")
    finding = findings()["data: caltech101"]
    assert finding.stops
    assert "data.root" in finding.text
    (project / "artifacts/liteclip/features/caltech101.zarr").mkdir(parents=True)
    assert findings()["data: caltech101"].state == "note"


OPENAI = ("encoder: liteclip", "encoder: vit_b16")


@pytest.mark.parametrize(("online", "state"), [(True, "note"), (False, "stop")])
def test_missing_weights_are_looked_for_and_not_fetched(
    project: Path, monkeypatch: pytest.MonkeyPatch, online: bool, state: str
) -> None:
    monkeypatch.setattr(doctor, "_answers", lambda _: online)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    change(project, *OPENAI)
    finding = findings()["encoder"]
    assert finding.state == state
    assert online or "to fetch them elsewhere" in finding.text


def test_missing_weights_do_not_stop_who_has_what_they_make(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_answers", lambda _: False)
    change(project, *OPENAI)
    (project / "artifacts/vit_b16/features/twemoji.zarr").mkdir(parents=True)
    (project / "artifacts/vit_b16/text_tower.safetensors").touch()
    assert findings()["encoder"].state == "note"


def test_unknown_model_stops_with_the_nearest(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_answers", lambda _: True)
    change(project, "model: ViT-B-16-quickgelu", "model: ViT-B-16-quikgelu")
    change_of_grid = (project / "params.yaml").read_text(encoding="utf-8").replace(*OPENAI)
    (project / "params.yaml").write_text(change_of_grid, encoding="utf-8")
    finding = findings()["encoder"]
    assert finding.stops
    assert "did you mean 'ViT-B-16-quickgelu'?" in finding.text
