"""No command with an output path destroys a file that it did not create."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trained
import yaml
from typer.testing import CliRunner

from features.errors import InputError
from features.formats.files import MARK, atomic_file, atomic_folder
from pipeline.cli.app import app

PREDICT = ["predict", "mine", "photos"]
OUTPUTS = {
    "--csv": [*PREDICT, "--csv"],
    "--json": [*PREDICT, "--json"],
    "--parquet": [*PREDICT, "--parquet"],
    "--html": [*PREDICT, "--html"],
    "--out": ["export", "mine", "--to", "safetensors", "--out"],
    "OUT": ["features", "export", "store.zarr", "--no-index"],
    "--into": ["report", "--into"],
}


FOLDERS = ("photos", "none/out.x", "photos/out.x", "artifacts/out.x")
FILES = ("photos/0.png", "kept.txt", "new.jpg", "/dev/null")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    trained.project(tmp_path)
    params = yaml.safe_load((tmp_path / "params.yaml").read_text(encoding="utf-8"))
    # The other data sets stay, because settings of methods name them.
    params["data"]["sets"]["mine"] = {"reader": "image_folder", "path": str(tmp_path / "photos")}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    (tmp_path / "kept.txt").write_text("kept", encoding="utf-8")
    (tmp_path / "store.zarr").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder, and an entry for each folder."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() if file.is_file() else b"" for file in folder.rglob("*")
    }


@pytest.mark.parametrize("option", OUTPUTS)
@pytest.mark.parametrize("path", [*FOLDERS, *FILES])
def test_a_path_whose_file_would_be_lost_is_an_error_before_work_starts(option: str, path: str, project: Path) -> None:
    before = files(project)
    result = CliRunner().invoke(app, [*OUTPUTS[option], path])
    assert result.exit_code != 0
    assert isinstance(result.exception, InputError)
    assert option in str(result.exception)
    assert path in str(result.exception)
    assert files(project) == before
    assert Path("/dev/null").is_char_device()


def test_an_input_is_not_overwritten_even_with_overwrite(project: Path) -> None:
    (project / "same.csv").hardlink_to(project / "photos/0.png")
    before = files(project)
    result = CliRunner().invoke(app, [*PREDICT, "--csv", "same.csv", "--overwrite"])
    assert isinstance(result.exception, InputError)
    assert files(project) == before


def test_two_options_cannot_write_the_same_file(project: Path) -> None:
    result = CliRunner().invoke(app, [*PREDICT, "--csv", "out.x", "--json", "./out.x"])
    assert isinstance(result.exception, InputError)
    assert not (project / "out.x").exists()


def test_an_existing_file_is_replaced_with_overwrite(project: Path) -> None:
    result = CliRunner().invoke(app, [*PREDICT, "--csv", "kept.txt", "--overwrite"])
    assert result.exit_code == 3  # photos/broken.jpg cannot be read
    assert (project / "kept.txt").read_text(encoding="utf-8").startswith("path,")


@pytest.mark.parametrize("write", [atomic_file, atomic_folder])
def test_a_folder_that_the_project_did_not_create_is_never_replaced(
    write: Callable[[Path], object], tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(b"a")
    with pytest.raises(InputError, match="photos"), write(tmp_path / "photos"):  # type: ignore[attr-defined]
        pass
    assert files(tmp_path) == {"photos": b"", "photos/a.jpg": b"a"}


def test_a_folder_that_the_project_created_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("a", "b"):
        with atomic_folder(out) as part:
            (part / name).touch()
    assert {*files(tmp_path)} == {"out", f"out/{MARK}", "out/b"}


def test_an_error_leaves_the_old_folder_unchanged(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out") as part:
        (part / "a").touch()
    before = files(tmp_path)
    with pytest.raises(InputError), atomic_folder(tmp_path / "out") as part:
        (part / "b" / "c").touch()
    assert files(tmp_path) == before
