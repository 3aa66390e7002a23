"""The `shipyard` command: run the pipeline, show its results, and find out what is missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
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
from pipeline.config import overrides, params
from pipeline.executor.repro import keep, repro
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
        int | None, typer.Option("--jobs", "-j", metavar="N", min=1, help="Number of stages to run in parallel.")
    ] = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Where to run stages: on this machine, or as many as fit on a Ray cluster (docs/scale.md)."),
    ] = "local",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors and results.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print every epoch, also in log files.")] = False,
) -> None:
    """Bring every stage up to date and print the results.

    params.yaml and the data sets are checked before any stage starts. The changes that DATASET, --set and --recipe make
    are written to params.yaml, where dvc.yaml and the stages read them, and remain there. A recipe with several runs
    saves each one as a DVC experiment; `dvc exp show` lists them.
    """
    from pipeline.executor.repository import exclusive_run
    from pipeline.executor.signals import ended_as_by_ctrl_c

    # Stages are processes of DVC, which passes on the environment but no options.
    os.environ[VERBOSITY] = "quiet" if quiet else "verbose" if verbose else "normal"

    # The lock is taken before params.yaml is read: a run that is refused changes nothing of the one at work.
    with exclusive_run(" ".join(["shipyard", *sys.argv[1:]])), ended_as_by_ctrl_c():
        _run_all(datasets or [], settings or [], recipe, partial(repro, jobs, engine))


def _run_all(
    datasets: list[str], settings: list[str], recipe: Path | None, bring_up_to_date: Callable[[], None]
) -> None:
    """Check the settings of every run, then bring the pipeline up to date with each in turn."""
    from features.errors import InputError
    from pipeline.cli.changed_weights import check_weights
    from pipeline.cli.stale import reindex_changed
    from pipeline.config import recipes
    from pipeline.executor.git import git
    from pipeline.executor.up_to_date import is_up_to_date

    # All runs of a recipe are checked first, so that a mistake in the last one stops the first.
    before = params.read()
    params.check_names(before)
    loaded = recipes.read(recipe) if recipe else None
    runs = loaded.assignments() if loaded else [[]]
    texts = [_with_settings(overrides.apply(before, run), datasets, settings) for run in runs]
    costs: list[list[str]] = [[] for _ in texts]
    nothing_to_do = texts == [before] and is_up_to_date()
    if not nothing_to_do:
        from pipeline.cli.check import check_all, fold_cost  # imports torch, with the methods that declare settings

        parsed = [params.parse_text(text) for text in texts]
        check_all(parsed)
        costs = [[*fold_cost(one)] for one in parsed]
    for text in texts:
        check_weights(params.parse_text(text))
    if loaded:
        committed = git("show", f"HEAD:./{params.PATH}") or before
        _print_left_over(loaded.left_over(before, committed))

    for number, after in enumerate(texts, start=1):
        if after != before:
            params.write(after, params.PATH.resolve())  # a link stays one
            for change in overrides.changes(before, after):
                print(f"params.yaml: {change}", flush=True)  # flushed, so that it precedes the output of the stages
        print("".join(f"{line}\n" for line in costs[number - 1]), end="", flush=True)
        if reindex_changed(params.parse_text(after)) or not nothing_to_do:
            bring_up_to_date()
        if (edited := params.read()) != after:
            changes = "; ".join(overrides.changes(after, edited))
            raise InputError(
                f"{params.PATH} was edited during this run: {changes}. Stages that had ended by then have the old "
                "values; run again"
            )

        report()
        if recipe and len(texts) > 1:
            keep(f"{recipe.stem}-{number}")
        before = after


def _print_left_over(settings: Sequence[str]) -> None:
    """Print settings that differ from the commit and that the recipe does not set: they influence its results."""
    for setting in settings:
        print(f"note: not set by this recipe, but changed in params.yaml since the commit: {setting}", flush=True)
    if settings:
        print(f"note: to restore the committed settings: git checkout {params.PATH}", flush=True)


def _with_settings(text: str, datasets: list[str], settings: list[str]) -> str:
    """Return the text of params.yaml with a grid of these data sets, and then with the settings."""
    grid = _grid_of(params.parse_text(text), datasets) if datasets else []
    return overrides.apply(text, [*grid, *settings])


def _grid_of(current: params.Params, datasets: list[str]) -> list[str]:
    """Return the settings that run data sets, as `key=value`; settings that do not change are left out.

    A data set made by `task new` has a task of the same name, for which a run is selected. All other data sets share
    the tasks that belong to no single data set.
    """
    own = [name for name in datasets if name in current.tasks]
    tasks, select = own, own
    if not own:
        shared = [name for name in current.tasks if name not in current.data.sets]
        tasks = [name for name in current.grid.tasks if name in shared] or shared[:1]
        select = [name for name in current.grid.select if name in tasks]

    axes = {"datasets": datasets, "select": select, "tasks": tasks}
    return [f"grid.{key}=[{', '.join(names)}]" for key, names in axes.items() if names != getattr(current.grid, key)]


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
        bool, typer.Option("--repair", help="Restore a damaged file from its whole copy, or remove its output.")
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
    """Unite the dvc.lock of two branches."""
    from features.errors import InputError
    from pipeline.executor.lock_merge import merge_conflict, merge_files

    if versions and len(versions) != 3:
        raise InputError("pass three versions of dvc.lock, BASE OURS THEIRS, or none")
    merged = merge_files(*versions) if versions else merge_conflict()

    for stage in merged.both:
        print(f"note: both sides ran {stage}; ours is kept, and `shipyard run` runs it again", file=sys.stderr)
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
