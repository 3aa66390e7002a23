"""Shell completion of names that are defined in `params.yaml`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from features.errors import InputError
from pipeline.config import params


def datasets(incomplete: str) -> list[str]:
    """Return the data sets whose names start with the incomplete word."""
    return _matching(incomplete, lambda current: current.data.sets)


def own_tasks(incomplete: str) -> list[str]:
    """Return the matching tasks made by `shipyard task new`; such a task has the name of its data set."""
    return _matching(incomplete, lambda current: {*current.tasks} & {*current.data.sets})


def _matching(incomplete: str, names: Callable[[params.Params], Iterable[str]]) -> list[str]:
    """Return the matching names; none if params.yaml is missing or invalid.

    Completion must not print errors into the line that the user is typing.
    """
    try:
        return sorted(name for name in names(params.load()) if name.startswith(incomplete))
    except InputError:
        return []
