"""`shipyard run`: settle the settings of every run, check them, and bring the pipeline up to date with each in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from features.errors import InputError
from pipeline.cli.changed_weights import check_weights
from pipeline.cli.stale import reindex_changed
from pipeline.config import overrides, params, recipes
from pipeline.executor.git import git
from pipeline.executor.repro import keep
from pipeline.executor.up_to_date import is_up_to_date


def run_all(
    datasets: list[str],
    settings: list[str],
    recipe: Path | None,
    bring_up_to_date: Callable[[], None],
    report: Callable[[], None],
) -> None:
    """Run the pipeline with the settings of `params.yaml` and these, or with each set of a recipe.

    The caller holds the repository's lock.

    Args:
        datasets: data sets to run instead of those of the grid; empty: those of the grid.
        settings: changes of `params.yaml`, as `key=value`.
        recipe: a file with one or several sets of settings, or None.
        bring_up_to_date: runs the stages.
        report: prints the results of each run.

    Raises:
        InputError: settings, data or weights cannot be used, a stage failed, or `params.yaml` was edited meanwhile.
    """
    # All runs of a recipe are checked first, so that a mistake in the last one stops the first.
    before = params.read()
    params.check_names(before)
    loaded = recipes.read(recipe) if recipe else None
    runs = loaded.assignments() if loaded else [[]]
    of_runs = [overrides.apply(before, run, f"settings of {recipe}") for run in runs]
    texts = [_with_settings(text, datasets, settings) for text in of_runs]
    parsed = [*map(params.parse_text, texts)]

    costs: list[list[str]] = [[] for _ in texts]
    nothing_to_do = texts == [before] and is_up_to_date()
    if not nothing_to_do:
        from pipeline.cli.check import check_all, fold_cost  # imports torch, with the methods that declare settings

        check_all(parsed)
        costs = [[*fold_cost(one)] for one in parsed]
    for one in parsed:
        check_weights(one)
    if loaded:
        committed = git("show", f"HEAD:./{params.PATH}") or before
        _print_left_over(loaded.left_over(before, committed))

    for number, (after, current) in enumerate(zip(texts, parsed, strict=True), start=1):
        if after != before:
            params.write(after, params.PATH.resolve())  # a link stays one
            for change in overrides.changes(before, after):
                print(f"params.yaml: {change}", flush=True)  # flushed, so that it precedes the output of the stages
        print("".join(f"{line}\n" for line in costs[number - 1]), end="", flush=True)
        if reindex_changed(current) or not nothing_to_do:
            bring_up_to_date()
            check_weights(current)  # again: DVC may have taken an older text tower from its run cache
        if (edited := params.read()) != after:
            changes = "; ".join(overrides.changes(after, edited))
            raise InputError(
                f"{params.PATH} was edited during this run: {changes}. Stages that had ended by then have the old "
                "values; run again"
            )

        report()
        if recipe and len(texts) > 1:
            keep(f"{recipes.experiment(recipe)}-{number}")
        before = after


def _print_left_over(settings: Sequence[str]) -> None:
    """Print settings that differ from the commit and that the recipe does not set: they influence its results."""
    for setting in settings:
        print(f"note: not set by this recipe, but changed in params.yaml since the commit: {setting}", flush=True)
    if settings:
        print(f"note: to restore the committed settings: git checkout {params.PATH}", flush=True)


def _with_settings(text: str, datasets: list[str], settings: list[str]) -> str:
    """Return the text of params.yaml with a grid of these data sets, and then with the settings."""
    grid = _grid_of(params.parse_blocks(text), datasets) if datasets else []  # the old one may name what is removed
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
