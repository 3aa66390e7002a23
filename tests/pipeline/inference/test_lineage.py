"""Predictions during a run: files that were not made from one another are refused, and the run is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from features.errors import InputError
from pipeline.artifacts.paths import EncoderPaths, TaskPaths
from pipeline.executor.damage import md5_of
from pipeline.executor.repository import LOCK, RUN_LOCK, exclusive_run
from pipeline.inference.lineage import one_lineage, run_named_in_errors


@pytest.fixture
def cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskPaths:
    """A repository whose `dvc.lock` says that every file was made of those that are there."""
    monkeypatch.chdir(tmp_path)
    cell = EncoderPaths(Path("artifacts/tiny")).cell("mine", "mine")
    files = [cell.train, cell.test, cell.fitted("coop") / "seed=1.safetensors", cell.validation_logits("coop") / "s.h5"]
    for number, file in enumerate([*files, cell.selection]):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(number), encoding="utf-8")
    record(cell)
    return cell


def record(cell: TaskPaths) -> None:
    """Write `dvc.lock` as after a whole run."""

    def entry(out: Path, dep: Path) -> dict[str, object]:
        suffix = ".dir" if dep.is_dir() else ""
        deps = [{"path": "artifacts/code/x.txt", "md5": "0"}, {"path": dep.as_posix(), "md5": md5_of(dep) + suffix}]
        return {"cmd": "x", "deps": deps, "outs": [{"path": out.as_posix(), "md5": "0"}]}

    logits = cell.validation_logits("coop")
    stages = {
        "fit@x": entry(cell.fitted("coop"), cell.train),
        "validate@x": entry(logits, cell.fitted("coop")),
        "select@x": entry(cell.selection, logits.parent),
    }
    LOCK.write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}), encoding="utf-8")


def read(cell: TaskPaths) -> None:
    with one_lineage(cell, "coop"):
        pass


def test_files_that_were_made_from_one_another_are_read(cell: TaskPaths) -> None:
    read(cell)
    LOCK.unlink()
    read(cell)


@pytest.mark.parametrize("kind", ["tasks", "fitted", "validation"])
def test_a_file_of_a_later_run_is_named_until_what_is_made_of_it_is_there(kind: str, cell: TaskPaths) -> None:
    changed = {"tasks": cell.train, "fitted": cell.fitted("coop"), "validation": cell.validation_logits("coop").parent}
    file = changed[kind] if changed[kind].is_file() else next(changed[kind].rglob("s*"))
    file = file if file.is_file() else next(file.glob("*"))
    file.write_text("of a later run", encoding="utf-8")
    with pytest.raises(InputError) as error:
        read(cell)
    assert f"another {changed[kind]}" in str(error.value)
    record(cell)
    read(cell)


def test_what_is_not_on_this_machine_is_not_compared(cell: TaskPaths) -> None:
    cell.train.unlink()
    next(cell.validation_logits("coop").glob("*")).unlink()
    cell.validation_logits("coop").rmdir()
    cell.validation_logits("coop").parent.rmdir()
    read(cell)


def test_a_file_that_is_replaced_while_it_is_read_is_an_error(cell: TaskPaths) -> None:
    with pytest.raises(InputError, match="replaced"), one_lineage(cell, "coop"):
        cell.selection.write_text("another", encoding="utf-8")


def test_a_run_at_work_is_named_in_errors(cell: TaskPaths) -> None:
    Path(".dvc/tmp").mkdir(parents=True)

    def fail() -> None:
        with run_named_in_errors():
            raise InputError("no file")

    with exclusive_run("shipyard run mine"), pytest.raises(InputError, match=r"no file[\s\S]*shipyard run mine"):
        fail()
    assert RUN_LOCK.is_file()
    with pytest.raises(InputError) as error:
        fail()
    assert str(error.value) == "no file"
