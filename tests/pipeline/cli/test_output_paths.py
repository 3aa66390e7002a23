"""No command with an output path destroys a file that it did not create."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import trained
import yaml
from pictures import picture
from project_root import ROOT
from typer.main import get_command
from typer.testing import CliRunner

from features.errors import InputError
from features.formats.files import MARK, atomic_file, atomic_folder
from pipeline.cli.app import app

PREDICT = ["predict", "mine", "photos"]
OUTPUTS = {  # a command's option or argument -> the words before its path
    "predict --csv": [*PREDICT, "--csv"],
    "predict --json": [*PREDICT, "--json"],
    "predict --parquet": [*PREDICT, "--parquet"],
    "predict --html": [*PREDICT, "--html"],
    "export --out": ["export", "mine", "--to", "safetensors", "--out"],
    "features export OUT": ["features", "export", "store.zarr", "--no-index"],
    "report --into": ["report", "--into"],
    "serve --labels": ["serve", "mine", "--labels"],
}
MADE_FROM = {"task new NAME", "features import DATASET", "features import-texts DATASET", "data get NAME"}  # a name
REPLACED = {"merge-lock [BASE OURS THEIRS]"}  # by git, in its own place
READ = {
    *("run --recipe", "features info STORE", "features covariance STORE", "features verify STORE"),
    *("features diff STORE", "features diff OTHER", "features export STORE", "features import SOURCE"),
    *("features import --classes", "features import --rows", "features import --only"),
    *("features import-texts FILE", "features import-texts --classes"),
    *("task new --images", "task new --unseen", "task new --aliases", "task new --descriptions"),
    *("task check IMAGES", "task check --unseen", "predict PATH"),
}
WORDS = {  # no paths
    *("run DATASET", "run --set", "data list NAME", "features import --encoder", "features import --weights-sha256"),
    *("features import --template", "features import --key", "features import --split-of"),
    *("features import-texts --encoder", "task new --template", "serve NAME", "serve --host", "serve --run"),
    *("predict NAME", "predict --run", "export NAME", "export --run"),
    *("words RUN", "words --image", "words --dataset", "words --task"),
}

# Each is lost, or not what the user means, if a file is written there.
FOLDERS = ("photos", "photos/out.x", "artifacts/out.x", ".git/out.x", "none/out.x", "kept.txt/out.x")
FILES = ("photos/0.png", "kept.txt", "new.jpg", "params.yaml", "dvc.lock", "/dev/null", "n" * 300)
LINKS = ("to_file", "to_folder", "to_nothing", "to_itself")
ROOTS = (".", "..", "/", "")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a user around a task: photographs, an encoder, and whatever else may be named for output."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    # The other data sets stay, because settings of methods name them.
    params["data"]["sets"]["mine"] = {"reader": "image_folder", "path": str(tmp_path / "photos")}
    params["encoders"]["tiny"] = {"model": f"local-dir:{tmp_path / 'encoder'}", "pretrained": "random:0"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    for name in ("photos", "encoder", "artifacts"):
        (tmp_path / name).mkdir()
    picture(0).save(tmp_path / "photos/0.png")
    (tmp_path / "encoder/open_clip_config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "kept.txt").write_text("kept", encoding="utf-8")
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n", encoding="utf-8")
    for name in ("store.zarr", ".git"):
        (tmp_path / name).mkdir()
    for link, target in zip(LINKS, ("kept.txt", "photos", "nothing", "to_itself"), strict=True):
        (tmp_path / link).symlink_to(target)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder, and an entry for each folder and each link."""
    return {
        path.relative_to(folder).as_posix(): (
            str(path.readlink()).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        )
        for path in folder.rglob("*")
    }


def text_parameters(command: Any, name: str = "") -> Iterator[str]:
    """Yield every option and argument of the command line whose value is a path or another text."""
    for word, below in getattr(command, "commands", {}).items():
        yield from text_parameters(below, f"{name} {word}".strip())
    hints = {} if hasattr(command, "commands") else get_type_hints(command.callback)
    for parameter in command.params:
        option = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar or parameter.name.upper()
        if {str, Path} & {*plain_types(hints.get(parameter.name))}:
            yield f"{name} {option}"


def plain_types(hint: Any) -> Iterator[Any]:
    yield hint
    for inner in () if get_origin(hint) is Literal else get_args(hint):
        yield from plain_types(inner)


def test_what_each_option_does_with_a_path_is_stated_here() -> None:
    stated = [*OUTPUTS, *MADE_FROM, *REPLACED, *READ, *WORDS]
    assert sorted(text_parameters(get_command(app))) == sorted(stated)


@pytest.mark.parametrize("option", OUTPUTS)
@pytest.mark.parametrize("path", [*FOLDERS, *FILES, *LINKS, *ROOTS])
def test_a_path_whose_file_would_be_lost_is_an_error_before_work_starts(option: str, path: str, project: Path) -> None:
    before = files(project)
    result = CliRunner().invoke(app, [*OUTPUTS[option], path])
    assert result.exit_code != 0
    assert isinstance(result.exception, InputError)
    assert option.rpartition(" ")[2] in str(result.exception)
    assert path in str(result.exception)
    assert files(project) == before
    assert Path("/dev/null").is_char_device()


KEPT = ("params.yaml", "dvc.lock", "classes/mine.txt", "elsewhere.csv", "encoder/open_clip_config.json", "photos/0.png")


@pytest.mark.parametrize("option", [option for option in OUTPUTS if option.startswith(("predict", "export"))])
@pytest.mark.parametrize("path", KEPT)
def test_what_the_project_reads_is_not_overwritten_even_with_overwrite(option: str, path: str, project: Path) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    params["data"]["sets"]["other"] = {
        "reader": "image_table",
        "path": str(project / "photos"),
        "table": str(project / "elsewhere.csv"),
    }
    (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    (project / "classes").mkdir()
    for name in ("classes/mine.txt", "elsewhere.csv"):
        (project / name).touch()
    before = files(project)
    result = CliRunner().invoke(app, [*OUTPUTS[option], path, "--overwrite"])
    assert isinstance(result.exception, InputError)
    assert option.rpartition(" ")[2] in str(result.exception)
    assert files(project) == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", ""),
        ("labels.csv", ""),
        ("labels.csv", "path,label,split\n"),
        ("labels.csv", "path,label\nmy photo.png,cat\n"),
        ("labels.csv", f"path,label\n{'0' * 32}.png\n"),
        ("labels.csv", "\0"),
        ("labels.csv/a", ""),
    ],
)
def test_labels_are_saved_only_in_a_folder_of_their_own(name: str, content: str, project: Path) -> None:
    (project / "mine" / name).parent.mkdir(parents=True)
    (project / "mine" / name).write_text(content, encoding="utf-8")
    before = files(project)
    result = CliRunner().invoke(app, ["serve", "mine", "--labels", "mine"])
    assert isinstance(result.exception, InputError)
    assert "--labels" in str(result.exception)
    assert files(project) == before


@pytest.fixture
def photos(project: Path) -> Path:
    """A folder with a class that `task new` accepts."""
    for name in ("cat", "dog"):
        (project / "new" / name).mkdir(parents=True)
        for number in range(4):
            (project / f"new/{name}/{number}.jpg").touch()
    return project


@pytest.mark.parametrize("there", ["classes", "classes/pets.txt/a", "classes/pets.txt", "classes/pets.txt ->"])
def test_task_new_replaces_nothing_that_it_did_not_write(there: str, photos: Path) -> None:
    path = photos / there.removesuffix(" ->")
    path.parent.mkdir(exist_ok=True, parents=True)
    if there.endswith("->"):
        path.symlink_to("nothing")
    else:
        path.write_text("mine\n", encoding="utf-8")
    before = files(photos)
    result = CliRunner().invoke(app, ["task", "new", "pets", "--images", "new"])
    assert isinstance(result.exception, InputError)
    assert "classes" in str(result.exception)
    assert files(photos) == before


def test_a_link_to_params_yaml_stays_one(photos: Path) -> None:
    (photos / "params.yaml").rename(photos / "shared.yaml")
    (photos / "params.yaml").symlink_to("shared.yaml")
    assert CliRunner().invoke(app, ["task", "new", "pets", "--images", "new"]).exit_code == 0
    assert (photos / "params.yaml").is_symlink()
    assert "pets" in (photos / "shared.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("there", ["index/lab.parquet", "index/lab.json", "tiny/features/lab.zarr"])
def test_features_import_replaces_nothing(there: str, project: Path) -> None:
    np.savez(
        project / "lab.npz", features=np.ones((4, 8), np.float16), labels=[0, 0, 1, 1], splits=["train", "test"] * 2
    )
    (project / "names.txt").write_text("cat\ndog\n", encoding="utf-8")
    (project / "artifacts" / there).parent.mkdir(parents=True, exist_ok=True)
    (project / "artifacts" / there).touch()
    before = files(project)
    command = ["features", "import", "lab.npz", "lab", "--encoder", "tiny", "--classes", "names.txt"]
    result = CliRunner().invoke(app, [*command, "--template", "a {}.", "--weights-sha256", "0" * 64])
    assert isinstance(result.exception, InputError)
    assert "DATASET" in str(result.exception)
    assert there in str(result.exception)
    assert files(project) == before


@pytest.mark.parametrize("ours", ["photos", "photos/0.png", "kept.txt", "none"])
def test_merge_lock_replaces_only_a_lock_file(ours: str, project: Path) -> None:
    before = files(project)
    result = CliRunner().invoke(app, ["merge-lock", "dvc.lock", ours, "dvc.lock"])
    assert isinstance(result.exception, InputError)
    assert "OURS" in str(result.exception) or "ours" in str(result.exception)
    assert files(project) == before


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


def test_an_existing_file_is_replaced_with_overwrite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained.project(tmp_path)
    (tmp_path / "kept.txt").write_text("kept", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [*PREDICT, "--csv", "kept.txt", "--overwrite"])
    assert result.exit_code == 3  # photos/broken.jpg cannot be read
    assert (tmp_path / "kept.txt").read_text(encoding="utf-8").startswith("path,")


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
