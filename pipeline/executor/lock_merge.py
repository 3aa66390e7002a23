"""Unite the `dvc.lock` of two branches: the entries of the stages that either of them ran."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from features.errors import InputError, Problems, raise_all
from features.formats.files import atomic_file
from pipeline.executor.lock_writer import HEADER, split_blocks
from pipeline.executor.repository import LOCK


@dataclass(frozen=True)
class Merged:
    """The text of a united lock file, and the stages that both sides changed, of which ours are kept."""

    text: str
    both: tuple[str, ...]


def merge(base: str, ours: str, theirs: str) -> Merged:
    """Unite two lock files.

    A stage that one side changed, added or removed is as that side has it. Of a stage that both changed to different
    entries, ours is kept; DVC runs the stage again, because its inputs are now those of both.

    Args:
        base: text of the common ancestor; empty if it has no lock file.
        ours: text of the current branch.
        theirs: text of the branch that is merged.

    Raises:
        InputError: a text is not laid out as DVC writes it.
    """
    texts = {"base": base or HEADER, "ours": ours, "theirs": theirs}
    sides = {name: split_blocks(text) for name, text in texts.items()}
    if bad := [name for name, blocks in sides.items() if blocks is None]:
        raise InputError(
            f"not a valid lock file of DVC: {LOCK} of {', '.join(bad)}. Take one side and run `shipyard run`"
        )

    old, mine, other = (sides[name] or {} for name in texts)
    united, both = {}, []
    for key in [*mine, *(key for key in other if key not in mine)]:
        before, a, b = old.get(key), mine.get(key), other.get(key)
        if a != before and b not in (a, before):
            both.append(key.strip().removesuffix(":"))
        kept = b if a == before else a
        if kept is not None:
            united[key] = kept
    return Merged(HEADER + "".join(united.values()), tuple(both))


def merge_files(base: Path, ours: Path, theirs: Path) -> Merged:
    """Unite lock files into `ours`, as git calls a merge driver.

    Raises:
        InputError: a file cannot be read, or is not a lock file; `ours` stays as it is.
    """
    problems = Problems()
    texts = [problems.attempt(partial(_text_of, file)) or "" for file in (base, ours, theirs)]
    raise_all(problems.messages, "BASE OURS THEIRS must be three versions of dvc.lock")
    merged = merge(*texts)
    with atomic_file(ours) as part:
        part.write_text(merged.text, encoding="utf-8")
    return merged


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read: {error}") from error


def merge_conflict() -> Merged:
    """Unite the versions that git holds of a `dvc.lock` with conflict markers, and write the result there.

    Raises:
        InputError: git holds no such versions.
    """
    base, ours, theirs = (_staged(number) for number in (1, 2, 3))
    if ours is None or theirs is None:
        raise InputError(f"git has no merge of {LOCK} in progress; see docs/merge.md")
    merged = merge(base or "", ours, theirs)
    with atomic_file(LOCK) as part:
        part.write_text(merged.text, encoding="utf-8")
    return merged


def _staged(number: int) -> str | None:
    """Return a version of a file in conflict: 1 the ancestor's, 2 ours, 3 theirs; None if there is none."""
    command = ["git", "show", f":{number}:./{LOCK}"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (fixed words)
    return process.stdout if process.returncode == 0 else None
