"""Two versions of `dvc.lock` are united stage by stage."""

from __future__ import annotations

import pytest

from features.errors import InputError
from pipeline.executor.lock_merge import merge
from pipeline.executor.lock_writer import HEADER


def lock(**stages: str) -> str:
    return HEADER + "".join(f"  {name}:\n    cmd: {command}\n" for name, command in stages.items())


def test_what_one_side_ran_added_or_removed_is_as_that_side_has_it() -> None:
    base = lock(a="1", b="1", c="1", d="1")
    merged = merge(base, lock(a="2", b="1", d="1", e="1"), lock(a="1", b="2", c="1", f="1"))
    assert merged.text == lock(a="2", b="2", e="1", f="1")
    assert merged.both == ()


def test_a_stage_that_both_ran_is_named_and_ours_is_kept() -> None:
    merged = merge(lock(a="1"), lock(a="2", report="1"), lock(a="2", report="2"))
    assert merged.text == lock(a="2", report="1")
    assert merged.both == ("report",)


def test_a_stage_that_one_side_removed_and_the_other_changed_is_kept_as_ours_has_it() -> None:
    assert merge(lock(a="1", b="1"), lock(b="1"), lock(a="2", b="1")).text == lock(b="1")
    assert merge(lock(a="1", b="1"), lock(a="2", b="1"), lock(b="1")).text == lock(a="2", b="1")


def test_without_an_ancestor_the_stages_of_both_are_kept() -> None:
    assert merge("", lock(a="1"), lock(b="1")).text == lock(a="1", b="1")


def test_a_text_that_is_no_lock_file_is_refused() -> None:
    with pytest.raises(InputError, match="theirs"):
        merge(lock(a="1"), lock(a="1"), "<<<<<<< HEAD\n")
