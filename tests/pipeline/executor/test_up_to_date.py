"""A run that has nothing to do is known from the states of files; at any difference DVC checks every cell."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_repo import copy_repo, ran, run

from pipeline.executor.up_to_date import RECORD, is_up_to_date

FITTED = Path("artifacts/tiny/fitted/mine/base_to_new/coop/seed=1.safetensors")


@pytest.fixture(scope="module")
def made(reproduced_repo: Path, warm_path: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small repository after a run that found nothing to do."""
    repo = copy_repo(reproduced_repo, tmp_path_factory.mktemp("desk") / "repo")
    run(repo, "python", "-m", "pipeline.executor.cells")
    return repo


@pytest.fixture
def repo(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same as the current folder; a test restores what it changes."""
    monkeypatch.chdir(made)
    assert is_up_to_date()
    return made


def touched(path: Path) -> Callable[[], object]:
    """Give a file another time; return what undoes that."""
    before = path.stat()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    return lambda: os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def moved(path: Path) -> Callable[[], object]:
    away = path.rename(path.with_name("away"))
    return lambda: away.rename(path)


def added(path: Path) -> Callable[[], object]:
    path.write_text("# new\n", encoding="utf-8")
    return path.unlink


def cached() -> Path:
    """An object of the cache that holds an output."""
    return max(Path(".dvc/cache/files/md5").glob("*/*"), key=lambda path: path.stat().st_size)


def unprotected(path: Path) -> Callable[[], object]:
    path.chmod(0o644)
    return lambda: path.chmod(0o444)


DIFFERENCES: dict[str, Callable[[], Callable[[], object]]] = {
    "params.yaml": lambda: touched(Path("params.yaml")),
    "dvc.yaml": lambda: touched(Path("dvc.yaml")),
    "dvc.lock": lambda: touched(Path("dvc.lock")),
    "DVC's configuration": lambda: touched(Path(".dvc/config")),
    "a local configuration": lambda: added(Path(".dvc/config.local")),
    "a source file": lambda: touched(Path("pipeline/methods/coop.py")),
    "a new source file": lambda: added(Path("pipeline/methods/mine.py")),
    "class names": lambda: touched(Path("classes/mine.txt")),
    "an output": lambda: touched(FITTED),
    "a missing output": lambda: moved(Path("artifacts/tiny/text_tower.safetensors")),
    "a new file in an output": lambda: added(FITTED.with_name("notes.txt")),
    "a missing object of the cache": lambda: moved(cached()),
    "an object of the cache that may have changed": lambda: unprotected(cached()),
    "another pipeline file": lambda: added(Path("classes.dvc")),
    "a pipeline file in a folder of a folder": lambda: added(Path("assets/published/dvc.yaml")),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_any_difference_is_left_to_dvc(repo: Path, difference: str) -> None:
    undo = DIFFERENCES[difference]()
    try:
        assert not is_up_to_date()
    finally:
        undo()
    assert is_up_to_date()


def test_what_python_writes_beside_sources_is_no_difference(repo: Path) -> None:
    cache = repo / "pipeline/protocols/__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "new.pyc").touch()
    assert is_up_to_date()


def test_without_a_whole_record_dvc_is_asked(repo: Path) -> None:
    text = RECORD.read_text(encoding="utf-8")
    for broken in ("", "[]", text[:100], "{}"):
        RECORD.write_text(broken, encoding="utf-8")
        assert not is_up_to_date()
    RECORD.write_text(text, encoding="utf-8")
    assert is_up_to_date()


def test_a_run_with_work_is_kept_as_up_to_date_and_a_failed_one_is_not(repo: Path) -> None:
    shutil.rmtree(FITTED.parent)
    assert not is_up_to_date()
    run(repo, "python", "-m", "pipeline.executor.cells")
    assert is_up_to_date()
    assert ran(run(repo, "dvc", "repro")) == set()
    assert is_up_to_date()

    params = Path("params.yaml")
    text = params.read_text(encoding="utf-8")
    params.write_text(text.replace("epochs: 2", "epochs: no number"), encoding="utf-8")
    run(repo, "python", "-m", "pipeline.executor.cells", check=False)
    assert not is_up_to_date()
    params.write_text(text, encoding="utf-8")
