"""Bytes that changed at rest, in the workspace and in DVC's cache: found, named, and repaired."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from small_repo import copy_repo, ran, run

from features.errors import InputError
from features.formats.files import sha256
from pipeline.cli.doctor import examine
from pipeline.cli.verify import verify_outputs
from pipeline.executor.damage import cache_folder

TEST = Path("artifacts/tiny/tasks/mine/base_to_new/test.h5")
SCORES = Path("artifacts/tiny/scores/mine/base_to_new/coop.json")
LOGITS = Path("artifacts/tiny/logits/mine/base_to_new/coop.h5")
WEIGHTS = Path("artifacts/tiny/fitted/mine/base_to_new/coop/seed=1.safetensors")


@pytest.fixture
def repo(reproduced_repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository in which every stage has run, as the current folder."""
    repo = copy_repo(reproduced_repo, tmp_path / "repo")
    monkeypatch.chdir(repo)
    return repo


def flip(path: Path) -> None:
    """Change a bit in the middle of a file, and keep its size, time and permissions."""
    state, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    path.chmod(state.st_mode)


def cached(path: Path) -> Path:
    """Return the object of DVC's cache that holds the bytes of a file."""
    md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    return cache_folder() / md5[:2] / md5[2:]


def test_a_whole_repository_is_found_whole(repo: Path) -> None:
    assert "what dvc.lock records" in verify_outputs(repair=False)
    assert [finding.state for finding in examine() if finding.about == "outputs"] == ["ok"]


@pytest.mark.parametrize("path", [TEST, SCORES, WEIGHTS])
def test_a_damaged_output_is_named_and_restored_from_the_cache(path: Path, repo: Path) -> None:
    before = sha256(path)
    flip(path)
    with pytest.raises(InputError, match=str(path)):
        verify_outputs(repair=False)
    assert [str(path) in finding.text for finding in examine() if finding.about == "outputs"] == [True]

    assert str(path) in verify_outputs(repair=True)
    assert sha256(path) == before
    verify_outputs(repair=False)


def test_a_damaged_object_of_the_cache_is_restored_from_the_workspace(repo: Path) -> None:
    thing = cached(WEIGHTS)
    before, mode = sha256(thing), thing.stat().st_mode
    flip(thing)
    with pytest.raises(InputError, match=thing.name):
        verify_outputs(repair=False)
    verify_outputs(repair=True)
    assert (sha256(thing), thing.stat().st_mode) == (before, mode)


def test_what_is_damaged_in_both_places_is_removed_and_made_again(repo: Path) -> None:
    for path in (TEST, WEIGHTS, SCORES):
        flip(cached(path))
        flip(path)
    before = {path: (repo / path).read_bytes() for path in (LOGITS,)}
    verify_outputs(repair=True)
    assert not any(path.exists() for path in (TEST, WEIGHTS, SCORES))

    again = ran(run(repo, "shipyard", "run"))
    assert {"build_task@mine-base_to_new", "fit@mine-base_to_new-coop"} <= again
    verify_outputs(repair=False)
    assert before == {path: (repo / path).read_bytes() for path in before}


def test_a_damaged_listing_of_a_folder_is_made_from_the_folder(repo: Path) -> None:
    listings = sorted(cache_folder().glob("*/*.dir"))
    for listing in listings:
        flip(listing)
    with pytest.raises(InputError, match=r"\.dir"):
        verify_outputs(repair=False)
    verify_outputs(repair=True)
    verify_outputs(repair=False)


def test_a_folder_that_is_damaged_like_its_listing_is_removed(repo: Path) -> None:
    for listing in cache_folder().glob("*/*.dir"):
        listing.unlink()
    flip(WEIGHTS)
    verify_outputs(repair=True)
    assert not WEIGHTS.parent.exists()
    assert SCORES.is_file()


def test_a_file_of_the_user_is_named_and_left_alone(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (repo / "dvc.lock").read_text(encoding="utf-8")
    (repo / "mine.txt").write_text("mine", encoding="utf-8")
    (repo / "dvc.lock").write_text(text.replace(f"path: {SCORES}", "path: mine.txt"), encoding="utf-8")
    assert "mine.txt: left alone" in verify_outputs(repair=True)
    assert (repo / "mine.txt").read_text(encoding="utf-8") == "mine"


def test_what_is_in_neither_place_is_not_counted_as_whole(repo: Path) -> None:
    whole = verify_outputs(repair=False).split()[0]
    cached(TEST).unlink()
    TEST.unlink()
    text = verify_outputs(repair=False)
    assert int(text.split()[0]) == int(whole) - 1
    assert " 1 " in text
    assert any(f"{int(whole) - 1} of {whole}" in finding.text for finding in examine() if finding.about == "outputs")


def test_an_output_that_is_a_link_into_the_cache_is_repaired(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    thing = cached(SCORES)
    SCORES.unlink()
    SCORES.symlink_to(thing)
    flip(thing)
    verify_outputs(repair=True)
    assert not SCORES.is_symlink()
    assert str(SCORES) not in capsys.readouterr().err  # it is no file of the user


@pytest.mark.parametrize("gone", [".dvc", ".git", "root"])
def test_a_folder_that_is_no_project_is_not_found_whole(gone: str, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(repo.parent))
    if gone == "root":
        monkeypatch.chdir("data")
    else:
        shutil.rmtree(gone)
    with pytest.raises(InputError, match=str(repo)):
        verify_outputs(repair=False)
