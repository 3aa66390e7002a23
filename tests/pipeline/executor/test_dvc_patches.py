"""What is changed of DVC in the process of a run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Event, Thread

import pytest

from pipeline.executor import dvc_patches, lock_writer


@pytest.fixture(autouse=True)
def _patched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apply the patches, and take them back after the test."""
    from dvc import rwlock
    from dvc.dependency import param

    monkeypatch.setattr(param, "load_path", param.load_path)
    monkeypatch.setattr(rwlock, "rwlock", rwlock.rwlock)
    monkeypatch.setattr(lock_writer, "install", lambda: None)
    dvc_patches.install()


def test_params_are_parsed_once_and_again_after_an_edit(tmp_path: Path) -> None:
    from dvc.dependency import param
    from dvc.fs import localfs

    file = tmp_path / "params.yaml"
    file.write_text("a: 1", encoding="utf-8")
    first = param.load_path(str(file), localfs)
    assert first == {"a": 1}
    assert param.load_path(str(file), localfs) is first

    file.write_text("a: 2", encoding="utf-8")
    os.utime(file, ns=(1, 1))
    assert param.load_path(str(file), localfs) == {"a": 2}


def test_two_cells_of_one_process_lock_their_paths_apart(tmp_path: Path) -> None:
    from dvc import rwlock
    from dvc.fs import localfs

    read, begun, ended = str(tmp_path / "train.h5"), Event(), Event()

    def readers() -> int:
        return len(json.loads((tmp_path / "rwlock").read_text(encoding="utf-8")).get("read", {}).get(read, []))

    def cell(write: str, until: Event | None) -> None:
        with rwlock.rwlock(str(tmp_path), localfs, "shipyard", [read], [write], False):
            with rwlock.rwlock(str(tmp_path), localfs, "shipyard", [read], [], False):
                begun.set()
                assert not until or until.wait(10)
            assert readers() == (2 if until is None else 1)

    long = Thread(target=cell, args=(str(tmp_path / "coop"), ended))
    long.start()
    assert begun.wait(10)  # nothing writes the file of locks from here on
    cell(str(tmp_path / "kgcoop"), None)
    ended.set()
    long.join(10)
    assert readers() == 0
