"""Bring the pipeline up to date: let DVC check every cell, and run those that changed, several at a time.

A cell is one instance of a stage. DVC decides whether it must run, restores its outputs if the run cache has them, and
records the result in `dvc.lock`. All of this is DVC's own code, for one cell at a time. Only the commands of cells run
at the same time, each in a process of its own. Afterwards `dvc repro` has nothing to do.

`pipeline.executor.repro` starts this module as a program in the repository.
"""

from __future__ import annotations

import heapq
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Lock
from typing import Annotated, Any

import typer

from features.errors import InputError
from features.runtime.commandline import print_any_text
from features.runtime.interruption import INTERRUPTED, exit_cleanly_on_interrupt, raise_lost_interrupt
from features.runtime.progress import line_of, quiet
from features.runtime.watch import end_with_the_run, watched_environment
from pipeline.executor import dvc_patches
from pipeline.executor.engines import ONE_BY_ONE, Engine, Name, open_engine
from pipeline.executor.repository import SECONDS, dvc_at_work
from pipeline.executor.stage_process import THREADS, is_stage
from pipeline.executor.up_to_date import Checked

LITTLE = 1 << 16  # bytes left on a disk that is as good as full
# Run one at a time, with all cores: there are few of them, and extraction uses all cores.
SHARED = ("code", "index", "extract", "text_tower", "classes", "build_task")

Stage = Any  # a `dvc.stage.Stage`; DVC has no types


def main(jobs: Annotated[int | None, typer.Option(min=1)] = None, engine: Name = "local") -> None:
    """Run every cell that changed, and exit with 1 if one failed.

    With one job here, the first failure ends the run. With several, or on a cluster, each gets an equal share of the
    cores, and every cell that does not depend on a failed one is run.
    """
    end_with_the_run()
    os.environ.update(watched_environment())  # the stages end with this process, too
    dvc_patches.install()

    from dvc.logger import set_loggers_level
    from dvc.repo import Repo, lock_repo

    with set_loggers_level(logging.WARNING), Repo(_wait_for_lock=True) as repo, lock_repo(repo):
        checked = Checked(repo)
        plan = Plan.of(repo)
        repo.lock.unlock()  # each cell takes it, so that other DVC commands can run meanwhile
        try:
            with repo.scm_context(quiet=True), open_engine(engine, jobs) as opened:
                failed = run_plan(repo, plan, opened, checked)
        finally:
            repo.lock.lock()

        if not failed:
            checked.save()

    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        sys.exit(1)


@dataclass(frozen=True)
class Plan:
    """The cells of a pipeline.

    Attributes:
        ranks: cell -> its place in the order in which `dvc repro` runs them.
        needs: cell -> the cells that it waits for.
    """

    ranks: Mapping[Stage, int]
    needs: Mapping[Stage, set[Stage]]

    @classmethod
    def of(cls, repo: Any) -> Plan:
        """Return the plan of a locked repository's `dvc.yaml`."""
        from dvc.dvcfile import PROJECT_FILE
        from dvc.repo.reproduce import get_active_graph, plan_repro

        graph = get_active_graph(repo.index.graph)
        stages = plan_repro(graph, [stage for stage in repo.index.stages if stage.path_in_repo == PROJECT_FILE])
        return cls(
            ranks={stage: rank for rank, stage in enumerate(stages)},
            needs={stage: set(graph.successors(stage)) for stage in stages},
        )

    def only(self, kinds: tuple[str, ...]) -> Plan:
        """Return the part with the cells of these stages of `dvc.yaml`, which need no others."""
        kept = {stage: rank for stage, rank in self.ranks.items() if stage.addressing.partition("@")[0] in kinds}
        return Plan(kept, {stage: self.needs[stage] & kept.keys() for stage in kept})


def run_plan(repo: Any, plan: Plan, engine: Engine, checked: Checked) -> list[str]:
    """Check the cells of a plan and run those that changed; return the names of those that failed."""
    if engine is ONE_BY_ONE:
        return _Run(repo, plan, engine, checked).run()
    if failed := _Run(repo, plan.only(SHARED), ONE_BY_ONE, checked).run():
        return failed
    with TemporaryDirectory(prefix="shipyard-") as logs:
        return _Run(repo, plan, engine, checked, Path(logs)).run()


class _Run:
    """One run over the cells of a plan, by threads of which one at a time calls DVC."""

    def __init__(self, repo: Any, plan: Plan, engine: Engine, checked: Checked, logs: Path | None = None) -> None:
        """Take the folder that gets the output of cells, so that those of several do not mix; None prints it."""
        self.repo, self.plan, self.engine, self.checked, self.logs = repo, plan, engine, checked, logs
        self.calling_dvc = Lock()
        self.interrupted = Event()
        self.failed: list[str] = []

    def run(self) -> list[str]:
        """Run the plan and return the names of the cells that failed."""
        import dvc.stage.run

        self.cmd_run = dvc.stage.run.cmd_run
        dvc.stage.run.cmd_run = self.run_command
        try:
            self.run_cells()
        finally:
            dvc.stage.run.cmd_run = self.cmd_run
        return self.failed

    def run_cells(self) -> None:
        """Give the threads cell after cell, each when those that it needs are done."""
        order = TopologicalSorter(self.plan.needs)
        order.prepare()
        waiting: list[tuple[int, Stage]] = []
        running: dict[Future[bool], Stage] = {}

        with ThreadPoolExecutor(self.engine.jobs) as pool:
            try:
                while order.is_active():
                    raise_lost_interrupt()
                    for stage in order.get_ready():
                        heapq.heappush(waiting, (self.plan.ranks[stage], stage))
                    while waiting and len(running) < self.engine.jobs:
                        _, stage = heapq.heappop(waiting)
                        running[pool.submit(self.bring_up_to_date, stage)] = stage
                    if not running:
                        break  # what is left depends on a cell that failed

                    for done in wait(running, return_when=FIRST_COMPLETED).done:
                        stage = running.pop(done)
                        if done.result():
                            order.done(stage)
                        else:
                            self.failed.append(stage.addressing)
                    if self.failed and self.engine is ONE_BY_ONE:
                        break
            except KeyboardInterrupt:
                # Leaving the pool waits for the running cells.
                self.interrupted.set()
                self.engine.interrupt()
                sys.exit(INTERRUPTED)

    def bring_up_to_date(self, stage: Stage) -> bool:
        """Let DVC check a cell, run it if it changed, and record it; return whether that succeeded.

        Another DVC command that has begun during this run may hold files of the cell; then wait for it.
        """
        from dvc.lock import LockError
        from dvc.repo.reproduce import _reproduce_stage

        waiting = False
        while not self.interrupted.wait(SECONDS if waiting else 0):
            try:
                with self.calling_dvc, self.repo.lock:
                    _reproduce_stage(stage, upstream=[], interactive=False)
                    self.checked.add(stage)
                return True
            except LockError:
                if not waiting:
                    print(f"{stage.addressing}: waiting for {_at_work()}, at work on its files", flush=True)
                waiting = True
            except plain_errors() as error:
                print(f"error: {stage.addressing}: {text_of(error)}", file=sys.stderr, flush=True)
                return False
        return False

    def run_command(self, stage: Stage, *, dry: bool, run_env: dict[str, str] | None) -> None:
        """Run the command of a cell; DVC calls this in place of its `cmd_run`, with the repository unlocked.

        A command that is not one of this project's stages runs as DVC runs it, in a shell.
        """
        from dvc.stage.exceptions import StageCmdFailedError
        from dvc.stage.run import prepare_kwargs

        if not quiet():
            number, total = self.plan.ranks[stage] + 1, len(self.plan.ranks)
            print(line_of(number, total, stage.addressing, drawn=sys.stdout.isatty()), flush=True)
        if self.engine.threads and THREADS not in os.environ:
            run_env = {**(run_env or {}), THREADS: str(self.engine.threads)}
        environment = prepare_kwargs(stage, run_env=run_env)["env"]
        log = self.logs / f"{self.plan.ranks[stage]}.txt" if self.logs else None

        self.calling_dvc.release()
        try:
            if not is_stage(stage.cmd) or Path(stage.wdir) != Path.cwd():
                self.cmd_run(stage, dry=dry, run_env=run_env)
            elif status := self.engine.run(stage.cmd, environment, log):
                raise StageCmdFailedError(stage.cmd, status)
        finally:
            self.calling_dvc.acquire()
            if log and log.exists():
                print(log.read_text(encoding="utf-8", errors="replace"), end="", flush=True)
                log.unlink()


def _at_work() -> str:
    """Return what holds the files of a cell, for a message; DVC writes the file of locks in place, so it may be cut."""
    try:
        return dvc_at_work() or "another program"
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return "another program"


def plain_errors() -> tuple[type[Exception], ...]:
    """Return the errors that DVC or a failing disk may raise anywhere, which need no traceback."""
    import sqlite3

    from dvc.exceptions import DvcException
    from dvc_data.hashfile.cache import DiskError

    return InputError, DvcException, DiskError, OSError, sqlite3.Error


def text_of(error: Exception) -> str:
    """Return an error as text that says where it happened and whether the disk is full.

    DVC passes on errors of its own files without their names, and calls a full disk a cache without links.
    """
    import sqlite3

    from dvc.dirs import site_cache_dir

    text = str(error)
    if isinstance(error, sqlite3.Error):
        text = f"DVC's database of hashes, below {site_cache_dir()}: {text}"
    elif isinstance(error, BrokenPipeError):
        text = "the program that reads what this run prints has ended; write it to a file instead: > log.txt"
    elif isinstance(error, OSError) and error.filename is None:
        text = f"a file of DVC, in .dvc or its cache: {error.strerror or text}"
    full = shutil.disk_usage(Path.cwd()).free < LITTLE and "No space left" not in text
    return f"{text} (the disk is full)" if full else text


if __name__ == "__main__":
    exit_cleanly_on_interrupt("DVC was not started")
    print_any_text()
    try:
        typer.run(main)
    except plain_errors() as error:
        print(f"error: {text_of(error)}", file=sys.stderr)
        sys.exit(1)
