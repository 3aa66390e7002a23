"""What the shell completes: names that stand in `params.yaml`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from features.errors import InputError
from pipeline.config import params


def datasets(incomplete: str) -> list[str]:
    """Data sets that begin so."""
    return _matching(incomplete, lambda found: found.data.sets)


def own_tasks(incomplete: str) -> list[str]:
    """Tasks of one's own, which are called as their data set is, that begin so."""
    return _matching(incomplete, lambda found: {*found.tasks} & {*found.data.sets})


def _matching(incomplete: str, names: Callable[[params.Params], Iterable[str]]) -> list[str]:
    """Nothing outside a project or with a params file that is wrong: a shell that completes has no place for errors."""
    try:
        return sorted(name for name in names(params.load()) if name.startswith(incomplete))
    except InputError:
        return []
