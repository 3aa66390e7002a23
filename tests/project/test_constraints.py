"""Files that an installation uses: exact versions, and no address or path of one machine."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from project_root import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINES = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
PINS = {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in LINES}
REQUIREMENTS = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]


def committed() -> list[Path]:
    """Return every text file that git tracks; skip the test without a git repository."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("needs the git repository")
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8192]]


def test_every_line_is_one_exact_version() -> None:
    assert [line for line in LINES if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)] == []
    assert len(PINS) == len(LINES), "a package is listed twice"


def test_pins_meet_the_project() -> None:
    for text in [text for group in REQUIREMENTS for text in group]:
        requirement = Requirement(text)
        assert canonicalize_name(requirement.name) in PINS, f"{text} has no pin: run `make constraints`"
        assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)]), text


def test_every_installed_dependency_has_a_pin() -> None:
    todo = [Requirement(text) for group in REQUIREMENTS for text in group]
    seen: set[tuple[str, str]] = set()
    while todo:
        need = todo.pop()
        for extra in ("", *need.extras):
            name = canonicalize_name(need.name)
            if (name, extra) not in seen and _installed(name):  # a package for another system is not installed
                seen.add((name, extra))
                needs = [Requirement(text) for text in requires(name) or ()]
                todo += [other for other in needs if not other.marker or other.marker.evaluate({"extra": extra})]
    present = {name for name, _ in seen} - {"setuptools"}  # part of the venv of Python 3.11
    assert present - set(PINS) == set(), "run `make constraints`"
    assert len(present) > 100


def _installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def test_lists_in_pyproject_are_sorted() -> None:
    for group in REQUIREMENTS:
        assert group == sorted(group, key=str.lower)


def test_no_file_has_an_index_address_or_a_path_of_one_machine() -> None:
    options = re.compile(r"--(extra-)?index-url|--find-links|--trusted-host|\bfile:///(?!shared/)\w")
    # Paths such as /path/to are examples.
    local_paths = re.compile(r"(?<![\w.])/(work|root|home|Users|opt|mnt)/\w")
    hits = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in committed()
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if options.search(line) or local_paths.search(line)
    ]
    assert hits == []


@pytest.mark.parametrize(
    "name", ["constraints.txt", "pyproject.toml", "Makefile", ".ci/run", ".pre-commit-config.yaml"]
)
def test_files_for_the_installation_have_no_address(name: str) -> None:
    assert "://" not in (ROOT / name).read_text(encoding="utf-8")
