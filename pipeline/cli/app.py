"""The `shipyard` command: run the pipeline, show its results, and find out what is missing."""

from __future__ import annotations

import os
import sys
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

import typer

from features.runtime.commandline import run_app
from features.runtime.progress import VERBOSITY
from pipeline.artifacts.paths import EncoderPaths
from pipeline.artifacts.selection import read_selection, selection_text
from pipeline.cli import completion, data, encoders, features, predict, serve, task, words
from pipeline.cli.help import DATA, HELP, OWN, RESULTS, STORES, PanelGroup, examples
from pipeline.config import params
from pipeline.executor.repro import repro
from pipeline.report.console import read_summary, results_text

app = typer.Typer(
    name="shipyard",
    epilog="Start with `shipyard doctor`, then `shipyard run`. Settings: params.yaml. Stages: dvc.yaml. Guide: docs/.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    cls=PanelGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(features.app, name="features", rich_help_panel=STORES)
app.add_typer(data.app, name="data", rich_help_panel=DATA)
app.add_typer(encoders.app, name="encoders", rich_help_panel=DATA)
app.add_typer(task.app, name="task", rich_help_panel=OWN)
app.add_typer(serve.app)
app.add_typer(predict.app)  # without a name, its commands become commands of `shipyard` itself
app.add_typer(words.app)


RESUMABLE = (["run"], ["data", "get"])  # commands that continue where they were interrupted


def main() -> None:
    """Run the command line."""
    resumable = any(sys.argv[1 : 1 + len(words)] == words for words in RESUMABLE)
    run_app(
        app,
        "completed work is kept and no file is half-written; run the same command again to continue"
        if resumable
        else "no file is half-written; run the same command again to start over",
    )


def _print_version(show: bool) -> None:
    if show:
        print(f"shipyard {version('shipyard-clip')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train one CLIP classifier for classes with images and classes with only names."""


@app.command(
    rich_help_panel=RESULTS,
    epilog=examples(
        "shipyard run",
        "shipyard run caltech101 --set data.root=../shared/data",
        "shipyard run --set grid.encoder=vit_b16 --set 'grid.seeds=[1]'",
        "shipyard run --recipe papers/ship_table_1.yaml",
        "shipyard run --jobs 4",
        "shipyard run --engine ray",
    ),
)
def run(
    datasets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATASET",
            help="Data sets to run instead of grid.datasets. A data set made by `task new` also selects its task.",
            autocompletion=completion.datasets,
        ),
    ] = None,
    *,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Setting of params.yaml to change. Can be repeated."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with settings, such as those of a table in papers/.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", metavar="N", min=1, help="Number of cells to run at a time.")
    ] = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Where to run cells: on this machine, or on a Ray cluster (docs/scale.md)."),
    ] = "local",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors and results.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print every epoch, also in log files.")] = False,
) -> None:
    """Bring every stage up to date and print the results.

    params.yaml and the data sets are checked before any stage starts. The changes that DATASET, --set and --recipe make
    are written to params.yaml, where dvc.yaml and the stages read them, and remain there. A recipe with several runs
    saves each one as a DVC experiment; `dvc exp show` lists them.
    """
    from pipeline.cli.run import run_all
    from pipeline.executor.repository import exclusive_run
    from pipeline.executor.signals import ended_as_by_ctrl_c

    # Stages are processes of DVC, which passes on the environment but no options.
    os.environ[VERBOSITY] = "quiet" if quiet else "verbose" if verbose else "normal"

    # The lock is taken before params.yaml is read: a run that is refused changes nothing of the one at work.
    with exclusive_run(" ".join(["shipyard", *sys.argv[1:]])), ended_as_by_ctrl_c():
        run_all(datasets or [], settings or [], recipe, partial(repro, jobs, engine), report)


def _print_selection(current: params.Params) -> None:
    """Print which run is selected for new images, for each data set and task of `grid.select`."""
    for dataset, name in product(current.grid.datasets, current.grid.select):
        selection = read_selection(EncoderPaths(current.artifacts).cell(dataset, name).selection)
        print(f"\n{selection_text(selection)}")
        if dataset == name:
            print(f"next: shipyard predict {name} <images>")


@app.command("check", rich_help_panel=HELP, epilog=examples("shipyard check"))
def check_only() -> None:
    """Check params.yaml, its data sets and dvc.lock; run no stage."""
    from features.errors import InputError
    from pipeline.cli.check import check_all
    from pipeline.cli.stale import stale_indexes
    from pipeline.executor.repository import lock_file_problem

    current = params.load()
    check_all([current])
    for name, changes in stale_indexes(current).items():
        print(f"note: {name}: images changed since they were indexed: {changes}; `shipyard run` indexes them again")
    if problem := lock_file_problem():
        raise InputError(problem)

    grid = current.grid
    runs_per_task = len(grid.methods) + len(grid.generators) * len(grid.synthetic_methods)
    runs = len(grid.datasets) * len(grid.tasks) * runs_per_task
    print(f"params.yaml is valid: {runs} runs x {len(grid.seeds)} seeds, encoder {grid.encoder}")


@app.command(
    rich_help_panel=RESULTS,
    epilog=examples("shipyard report", "shipyard report --into docs/results/mine.md"),
)
def report(
    into: Annotated[
        Path | None,
        typer.Option(
            metavar="PAGE",
            help="Markdown page to update: the tables replace the text between its two marks, and a CSV file is "
            "written beside it.",
        ),
    ] = None,
) -> None:
    """Print the results and write the HTML report."""
    from pipeline.cli.stale import copies_across_splits
    from pipeline.report.docs_results import check_page, update_results_page
    from pipeline.report.local_report import write_local_report

    if into:
        check_page(into)

    current = params.load()
    folder = EncoderPaths(current.artifacts).report
    waiting = [name for name in current.tasks if name in current.data.sets and name not in current.grid.datasets]
    own = "".join(f", `shipyard run {name}`" for name in waiting)
    summary = read_summary(folder, f"run one of these first: `shipyard run` ({', '.join(current.grid.datasets)}){own}")
    if into:
        update_results_page(into, folder)
    print(results_text(summary, folder, write_local_report(current, summary)))
    for line in copies_across_splits(current):
        print(f"note: {line}")
    _print_selection(current)


@app.command(rich_help_panel=HELP, epilog=examples("shipyard verify", "shipyard verify --repair"))
def verify(
    *,
    repair: Annotated[
        bool, typer.Option("--repair", help="Restore damaged files from good copies; without one, remove the output.")
    ] = False,
) -> None:
    """Find damaged files among all outputs and in DVC's cache."""
    from pipeline.cli.verify import verify_outputs

    print(verify_outputs(repair))


@app.command(
    rich_help_panel=HELP,
    epilog=examples("shipyard merge-lock", "git config merge.dvc-lock.driver 'shipyard merge-lock %O %A %B'"),
)
def merge_lock(
    versions: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[BASE OURS THEIRS]",
            help="Versions of dvc.lock, as git passes them to a merge driver; OURS is replaced. Default: those of the "
            "merge in progress.",
        ),
    ] = None,
) -> None:
    """Merge the dvc.lock files of two branches."""
    from features.errors import InputError
    from pipeline.executor.lock_merge import merge_conflict, merge_files

    if versions and len(versions) != 3:
        raise InputError("pass three versions of dvc.lock, BASE OURS THEIRS, or none")
    merged = merge_files(*versions) if versions else merge_conflict()

    for stage in merged.both:
        print(f"note: both sides ran {stage} with different results; ours is kept", file=sys.stderr)
    if not versions:
        print("dvc.lock has the stages of both sides; next: git add dvc.lock")


@app.command(rich_help_panel=HELP, epilog=examples("shipyard doctor"))
def doctor() -> None:
    """Check this machine and print how to fix what would stop a run."""
    from pipeline.cli.doctor import examine

    stops = 0
    for finding in examine():
        print(finding, flush=True)
        stops += finding.stops
    if stops:
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
