"""The commands of docs/merge.md in two real clones, which each ran something else."""

from __future__ import annotations

from pathlib import Path

from small_repo import copy_repo, lock, ran, run


def git(repo: Path, *words: str) -> str:
    return run(repo, "git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words, check=False)


def test_two_branches_that_ran_other_settings_are_merged(reproduced_repo: Path, tmp_path: Path) -> None:
    ours = copy_repo(reproduced_repo, tmp_path / "ours")
    (ours / ".gitattributes").write_text("dvc.lock merge=dvc-lock\n", encoding="utf-8")
    run(ours, "dvc", "remote", "add", "--default", "team", str(tmp_path / "remote"))
    git(ours, "add", ".")
    git(ours, "commit", "-qm", "start")
    theirs = copy_repo(ours, tmp_path / "theirs")

    run(ours, "shipyard", "run", "-q", "--set", "methods.tip_adapter.beta_points=4")
    run(theirs, "shipyard", "run", "-q", "--set", "synthesis.per_class=5")
    for repo in (ours, theirs):
        git(repo, "commit", "-qam", "another setting")
        run(repo, "dvc", "push", "-q")
    git(ours, "fetch", "-q", str(theirs), "HEAD:theirs")

    # First as git does it without the driver, then with it.
    assert "CONFLICT" in git(ours, "merge", "theirs")
    assert "dvc.lock has conflict markers" in run(ours, "shipyard", "check", check=False)
    assert "report" in run(ours, "shipyard", "merge-lock")
    by_hand = (ours / "dvc.lock").read_bytes()
    git(ours, "merge", "--abort")

    git(ours, "config", "merge.dvc-lock.driver", "shipyard merge-lock %O %A %B")
    assert "CONFLICT" not in git(ours, "merge", "--no-edit", "theirs")
    assert (ours / "dvc.lock").read_bytes() == by_hand
    assert len(lock(ours)) == len(lock(theirs))

    run(ours, "dvc", "pull", "-q")
    assert ran(run(ours, "shipyard", "run")) == {"report"}
    assert "Running stage" not in run(ours, "dvc", "repro")
