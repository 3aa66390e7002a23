"""What a cell of the grid costs beside its work: grids in the form of SHIP's Table 1 on 3, 11 and 33 data sets.

`python -m benchmarks.grid [SIZE ...]`

The images and encoders are tiny, so that the commands of stages take next to nothing, and all CPU time counts as the
cost of running them: DVC, the start of processes, and the reading and writing of small files. CPU time is that of every
process that a command starts.
"""

from __future__ import annotations

import copy
import ctypes
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.memory import ROOT
from features.formats.files import atomic_file

SIZES = (3, 11, 33)  # data sets: a few, those of the papers, and those of three encoders
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- written by python -m benchmarks.grid -->\n", "<!-- end of the grid -->\n"
HEAD = "| data sets | cells | `shipyard run`, a cell | no-op `shipyard run` | no-op `dvc repro` | status of DVC |\n"
METHODS = ("zero_shot", "coop", "cocoop", "proda", "clip_adapter", "vpt", "tip_adapter_f")
WITH_SHIP = ("coop", "clip_adapter", "tip_adapter_f")
BECOME_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: orphans become children of this process, which waits for them


def main(
    sizes: Annotated[list[int] | None, typer.Argument(metavar="SIZE", help="Numbers of data sets.")] = None,
) -> None:
    """Run each grid, print CPU seconds, and write them into docs/performance.md."""
    ctypes.CDLL(None).prctl(BECOME_SUBREAPER, 1)
    sys.path.insert(0, str(ROOT / "tests/helpers"))
    rows: list[tuple[int, int, list[float]]] = []
    for size in sizes or SIZES:
        with TemporaryDirectory() as folder:
            rows.append(measure(size, Path(folder) / "repo"))
        print(line(*rows[-1]), end="", flush=True)

    table = HEAD + "|--:|--:|--:|--:|--:|--:|\n" + "".join(line(*row) for row in rows)
    if len(rows) > 1:
        exponent = np.polyfit(np.log([row[1] for row in rows]), np.log([row[1] * row[2][0] for row in rows]), 1)[0]
        table += f"\nThe cost of a whole run grows with the number of cells to the power of {exponent:.2f}.\n"
    write(table)


def measure(size: int, repo: Path) -> tuple[int, int, list[float]]:
    """Return the number of data sets, of cells, and CPU seconds: a cell in a run, and each command without work."""
    small_repo: Any = import_module("small_repo")
    repo.mkdir()
    small_repo.make_repo(repo, grid_params(small_repo.PARAMS, size))

    whole = cpu_seconds(repo, "shipyard", "run", "--quiet")
    cells = len(small_repo.lock(repo))
    idle = [
        cpu_seconds(repo, *words) for words in (("shipyard", "run", "-q"), ("dvc", "repro", "-q"), ("dvc", "status"))
    ]
    return size, cells, [whole / cells, *idle]


def grid_params(params: dict[str, Any], size: int) -> dict[str, Any]:
    """Return params.yaml of SHIP's Table 1 on `size` data sets, which are one folder under many names."""
    changed = copy.deepcopy(params)
    names = [f"set{number:02}" for number in range(size)]
    changed["grid"] |= {"datasets": names, "methods": [*METHODS], "synthetic_methods": [*WITH_SHIP], "seeds": [1]}
    changed["data"]["sets"] = dict.fromkeys(names, changed["data"]["sets"]["mine"])
    changed["methods"] = {name: {"epochs": 1} for name in METHODS if name != "zero_shot"} | {"zero_shot": {}}
    changed["methods"]["proda"]["prompts"] = 2
    changed["methods"]["tip_adapter_f"] |= {"beta_points": 3, "alpha_points": 3}
    return changed


def cpu_seconds(repo: Path, *command: str) -> float:
    """Run a command and return the CPU seconds of all processes that it started."""
    with new_cpu_seconds() as spent:
        environment = {**os.environ, "PYTHONPATH": str(repo), "OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=repo, env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        while True:  # orphans
            try:
                os.wait()
            except ChildProcessError:
                break
    return spent[0]


@contextmanager
def new_cpu_seconds() -> Iterator[list[float]]:
    """Fill the list with the CPU seconds of children that ended within the block."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent: list[float] = []
    yield spent
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def line(size: int, cells: int, seconds: list[float]) -> str:
    """Return a row of the table."""
    return f"| {size} | {cells} | " + " | ".join(f"{value:.2f}" for value in seconds) + " |\n"


def write(table: str) -> None:
    """Write the table into the page, between its two marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    with atomic_file(PAGE) as page:
        page.write_text(before + BEGIN + table + END + after, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
