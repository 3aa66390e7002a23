"""`shipyard`: run the pipeline, look at what came out, and find what is missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from features.runtime.commandline import run_app
from features.runtime.progress import VERBOSITY
from pipeline.artifacts.paths import EncoderPaths, proxy_task
from pipeline.artifacts.selection import read_selection, selection_text
from pipeline.cli import completion, data, features, predict, task, words
from pipeline.cli.help import DATA, HELP, OWN, RESULTS, STORES, Contents, examples
from pipeline.config import overrides, params
from pipeline.executor.repro import keep, repro
from pipeline.report.console import read_summary, results_text

app = typer.Typer(
    name="shipyard",
    epilog="Start with `shipyard doctor`, then `shipyard run`. Settings: params.yaml. Stages: dvc.yaml. Why: docs/.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    cls=Contents,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(features.app, name="features", rich_help_panel=STORES)
app.add_typer(data.app, name="data", rich_help_panel=DATA)
app.add_typer(task.app, name="task", rich_help_panel=OWN)
app.add_typer(predict.app)  # without a name: its commands are ours
app.add_typer(words.app)


GO_ON = (["run"], ["data", "get"])  # where these were interrupted, they go on; all other commands are done in one go


def main() -> None:
    """Run the command line to its end."""
    goes_on = any(sys.argv[1 : 1 + len(words)] == words for words in GO_ON)
    run_app(
        app,
        "nothing is half-written, and what was complete is kept; the same command goes on from there"
        if goes_on
        else "nothing is half-written; the same command starts anew",
    )


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"shipyard {version('shipyard-clip')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """One classifier for classes with images and classes with only names."""


@app.command(
    rich_help_panel=RESULTS,
    epilog=examples(
        "shipyard run",
        "shipyard run caltech101 --set data.root=../shared/data",
        "shipyard run --set grid.encoder=vit_b16 --set 'grid.seeds=[1]'",
        "shipyard run --recipe papers/ship_table_1.yaml",
        "shipyard run --jobs 4",
    ),
)
def run(
    datasets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATASET",
            help="Run on these instead of grid.datasets; one of your own, with its task.",
            autocompletion=completion.datasets,
        ),
    ] = None,
    *,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of params.yaml.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Take settings from a file: those of a table in papers/.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", metavar="N", min=1, help="Run N cells at a time.")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors and the results alone.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print every epoch, in logs too.")] = False,
) -> None:
    """Bring every stage up to date, then print the results.

    All of params.yaml, and that the images are there, is checked before anything starts. What DATASET, --set and
    --recipe change is written into params.yaml, where dvc.yaml and the stages read it, and stays there. A recipe of
    several runs keeps each as a DVC experiment: `dvc exp show`.
    """
    from pipeline.cli.check import check_all
    from pipeline.config import recipes
    from pipeline.executor.git import git
    from pipeline.executor.parallel import repro_parallel

    os.environ[VERBOSITY] = "quiet" if quiet else "verbose" if verbose else "normal"  # what the stages read
    before = params.read()
    runs = recipes.read(recipe).assignments() if recipe else [[]]
    texts = [_changed(overrides.apply(before, run), datasets or [], settings or []) for run in runs]
    check_all([params.parse_text(text) for text in texts])
    if recipe:
        _tell_left_over(recipes.read(recipe).left_over(before, git("show", f"HEAD:./{params.PATH}") or before))
    for number, after in enumerate(texts, start=1):
        if after != before:
            params.write(after)
            for change in overrides.changes(before, after):
                print(f"params.yaml: {change}", flush=True)  # before what the stages print
        repro() if jobs == 1 else repro_parallel(jobs)
        report()
        _tell_choice(params.parse_text(after))
        if recipe and len(texts) > 1:
            keep(f"{recipe.stem}-{number}")
        before = after


def _tell_left_over(settings: Sequence[str]) -> None:
    """Say what an earlier recipe or --set left in params.yaml: it is part of what this run makes."""
    for setting in settings:
        print(f"note: params.yaml is not as committed, and this recipe leaves it so: {setting}", flush=True)
    if settings:
        print(f"note: to go back, `git checkout {params.PATH}` first", flush=True)


def _changed(text: str, datasets: list[str], settings: list[str]) -> str:
    """The text of params.yaml with these data sets as its grid, and then the settings."""
    wanted = _grid_of(params.parse_text(text), datasets) if datasets else []
    return overrides.apply(text, [*wanted, *settings])


def _grid_of(found: params.Params, datasets: list[str]) -> list[str]:
    """Settings that run data sets: one of one's own with its task and the rehearsal that chooses, others without."""
    own = [name for name in datasets if name in found.tasks]
    choose = [name for name in own if proxy_task(name) in found.tasks]
    tasks = [*own, *map(proxy_task, choose)]
    if not own:  # tasks that no data set has to itself: those of the grid, or the first that there is
        others = [
            name
            for name, task in found.tasks.items()
            if name not in found.data.sets and task.get("protocol") != params.VALIDATION_PROXY
        ]
        tasks = [name for name in found.grid.tasks if name in others] or others[:1]
    named = {"datasets": datasets, "select": choose, "tasks": tasks}
    return [f"grid.{key}=[{', '.join(names)}]" for key, names in named.items() if names != getattr(found.grid, key)]


def _tell_choice(found: params.Params) -> None:
    """Say which run is chosen, for new images are what a task of one's own is for."""
    for dataset, name in product(found.grid.datasets, found.grid.select):
        print(f"\n{selection_text(read_selection(EncoderPaths(found.artifacts).cell(dataset, name).selection))}")
        if dataset == name:
            print(f"next: shipyard predict {name} <images>")


@app.command("check", rich_help_panel=HELP, epilog=examples("shipyard check"))
def check_only() -> None:
    """Check params.yaml and the data that it names, and run nothing."""
    from pipeline.cli.check import check_all

    found = params.load()
    check_all([found])
    grid = found.grid
    runs = len(grid.methods) + len(grid.generators) * len(grid.synthetic_methods)
    cells = len(grid.datasets) * len(grid.tasks) * runs
    print(f"params.yaml is right: {cells} cells with {len(grid.seeds)} seeds each, on features of {grid.encoder}")


@app.command(
    rich_help_panel=RESULTS,
    epilog=examples("shipyard report", "shipyard report --into docs/results/mine.md"),
)
def report(
    into: Annotated[
        Path | None,
        typer.Option(metavar="PAGE", help="Also put the tables into PAGE, between its two marks, and a CSV beside it."),
    ] = None,
) -> None:
    """Print the results, and write the page to look at."""
    from pipeline.report.docs_results import check_page, update_results_page
    from pipeline.report.local_report import write_local_report

    if into:
        check_page(into)
    found = params.load()
    folder = EncoderPaths(found.artifacts).report
    summary = read_summary(folder)
    if into:
        update_results_page(into, folder)
    print(results_text(summary, folder, write_local_report(found, summary)))


@app.command(rich_help_panel=HELP, epilog=examples("shipyard doctor"))
def doctor() -> None:
    """Find what would stop a run here, and say how to mend it."""
    from pipeline.cli.doctor import examine

    stops = 0
    for finding in examine():
        print(finding, flush=True)
        stops += finding.stops
    if stops:
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
