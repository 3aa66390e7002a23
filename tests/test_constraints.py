"""The files that an installation is made from: exact versions, and nothing that only one machine knows."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINES = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
PINS = {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in LINES}
WANTED = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]


def committed() -> list[Path]:
    """Every text file that git keeps; without git, those of the source tree's top."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("needs the git repository")
    paths = [ROOT / name for name in done.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8192]]


def test_every_line_is_one_exact_version() -> None:
    assert [line for line in LINES if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)] == []
    assert len(PINS) == len(LINES), "a package stands twice"


def test_pins_meet_the_project() -> None:
    for text in [text for group in WANTED for text in group]:
        requirement = Requirement(text)
        assert canonicalize_name(requirement.name) in PINS, f"{text} has no pin: run `make constraints`"
        assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)]), text


def test_pins_cover_all_that_the_project_brings() -> None:
    todo = [Requirement(text) for group in WANTED for text in group]
    seen: set[tuple[str, str]] = set()
    while todo:
        need = todo.pop()
        for extra in ("", *need.extras):
            name = canonicalize_name(need.name)
            if (name, extra) not in seen and _installed(name):  # what is not installed is for another system
                seen.add((name, extra))
                needs = [Requirement(text) for text in requires(name) or ()]
                todo += [other for other in needs if not other.marker or other.marker.evaluate({"extra": extra})]
    present = {name for name, _ in seen} - {"setuptools"}  # comes with Python 3.11's venv
    assert present - set(PINS) == set(), "run `make constraints`"
    assert len(present) > 100


def _installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def test_lists_in_pyproject_are_sorted() -> None:
    for group in WANTED:
        assert group == sorted(group, key=str.lower)


def test_no_address_and_no_path_of_one_machine() -> None:
    options = re.compile(r"--(extra-)?index-url|--find-links|--trusted-host|\bfile:///(?!shared/)\w")
    # /path/to, /where and the like are examples that no machine has.
    places = re.compile(r"(?<![\w.])/(work|root|home|Users|opt|mnt)/\w")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in committed()
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if options.search(line) or places.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "name", ["constraints.txt", "pyproject.toml", "Makefile", ".ci/run", ".pre-commit-config.yaml"]
)
def test_installing_names_no_address(name: str) -> None:
    assert "://" not in (ROOT / name).read_text(encoding="utf-8")
