"""Where the commands of cells run: on this machine (`local`), or on a Ray cluster (`ray`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from features.runtime.cores import cores
from pipeline.executor.stage_process import run_stage

Name = Literal["local", "ray"]


def _nothing() -> None:
    """Do nothing: a terminal sends Ctrl-C to all processes of this machine."""


@dataclass(frozen=True)
class Engine:
    """What runs the commands of cells.

    Attributes:
        jobs: most commands at a time.
        threads: of each command; None for all cores, of the only command at a time.
        run: runs the command of a stage, as `run_stage` does.
        interrupt: ends the commands at work, after Ctrl-C.
    """

    jobs: int
    threads: int | None
    run: Callable[[str, Mapping[str, str], Path | None], int]
    interrupt: Callable[[], None] = _nothing


ONE_BY_ONE = Engine(1, None, run_stage)


@contextmanager
def open_engine(name: Name, jobs: int | None) -> Iterator[Engine]:
    """Yield an engine; `jobs` is the most commands at a time, None for one here, and for all that fit a cluster.

    Raises:
        InputError: there is no Ray cluster, or no cell fits it.
    """
    if name == "ray":
        from pipeline.config.params import load
        from pipeline.executor.ray_cells import open_ray

        with open_ray(load().compute, jobs) as engine:
            yield engine
    elif jobs is None or jobs == 1:
        yield ONE_BY_ONE
    else:
        yield Engine(jobs, max(1, cores() // jobs), run_stage)
