"""Hooks and fixtures that all tests share."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import hypothesis
import pytest
import warm
from filelock import FileLock
from longest_files import LONGEST_FILES
from project_root import ROOT

# A shell that starts the suite in the background (`make test &`) has it ignore Ctrl-C, and every child inherits that.
# With a handler here, the children get the default: Ctrl-C ends them, as the tests of Ctrl-C need.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # `nohup make test` has it ignored in the same way

# Tests start `dvc` by its name. The suite may run without its environment being activated, as `make test` does.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

# A machine that is busy with other work is no failure of the code.
hypothesis.settings.register_profile("patient", deadline=None, derandomize=True)
hypothesis.settings.load_profile("patient")

LEFT_OUT = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT_OUT] = 0


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files, the longest first; the order of the tests in a file stays."""
    rank = {name: number for number, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST_FILES)))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Take the count of a worker; each worker collects, and so leaves out, the same tests."""
    output = getattr(node, "workeroutput", {})
    config: pytest.Config = node.config  # type: ignore[attr-defined]
    config.stash[LEFT_OUT] = max(config.stash[LEFT_OUT], output.get("left_out", 0))


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Count the tests marked `system` that `-m "not system"` leaves out."""
    for item in items:
        if item.get_closest_marker("system"):
            item.config.stash[LEFT_OUT] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the count of this worker to the process that reports."""
    output = getattr(session.config, "workeroutput", None)  # only workers of pytest-xdist have it
    if output is not None:
        output["left_out"] = session.config.stash[LEFT_OUT]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Report how many tests were left out, and how to run them."""
    if count := config.stash[LEFT_OUT]:
        terminalreporter.write_line(f"{count} tests marked `system` were left out: `make test-all` runs them, too.")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real photographs, splits and weights, which lie beside the repository on the project's machines only."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"needs real data beside the repository ({folder} does not exist)")
    return folder


@pytest.fixture(scope="session")
def warm_programs() -> Iterator[Path]:
    """A folder with a `python`, a `dvc` and a `shipyard` that start at once: one server for all tests of a worker."""
    with warm.programs() as folder:
        yield folder


@pytest.fixture(scope="module")
def warm_path(warm_programs: Path) -> Iterator[None]:
    """Put the programs of `warm_programs` on the PATH for all tests of a module."""
    import small_repo  # noqa: PLC0415 (imports torch, which most tests need, but not all)

    with small_repo.path_with(warm_programs):
        yield


@pytest.fixture(scope="session")
def reproduced_repo(warm_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small repository after one `dvc repro`, one for all workers: tests take a copy and never change this one."""
    import small_repo  # noqa: PLC0415

    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # the workers' folders lie in that of the session
    repo = base / "reproduced"

    with FileLock(base / "reproduced.lock"):
        if not repo.exists():
            # Renamed when it is complete, so that no test copies one whose `dvc repro` failed.
            part = base / "reproduced.part"
            shutil.rmtree(part, ignore_errors=True)
            with small_repo.path_with(warm_programs):
                small_repo.make_repo(part)
                small_repo.run(part, "dvc", "repro")
            part.rename(repo)
    return repo
