"""Everything that `params.yaml` names, checked before any work starts, with all mistakes told at once.

`params.load` checks the blocks that every run needs. The options of a reader, a protocol, a generator or a method
belong to that file alone, so here each of them is imported and given its block.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import features.datasets
import pipeline.generators
import pipeline.methods
import pipeline.protocols
from features.datasets.base import Reader, reader_from
from features.errors import InputError, Problems, combined_error, nearest, raise_all
from features.index import mistakes
from features.lookup import find, names
from features.settings import Settings, parse
from pipeline.artifacts.paths import index, proxy_task
from pipeline.artifacts.scores import AVERAGE
from pipeline.config.params import PATH, VALIDATION_PROXY, Params
from pipeline.generators.base import Generator
from pipeline.methods.base import Method
from pipeline.protocols.base import Protocol

S = TypeVar("S", bound=Settings)


def check(params: Params) -> None:
    """Import and parse all that the grid names, and see that it fits together.

    Raises:
        InputError: lists every mistake in every block.
    """
    grid, made = params.grid, _Made()
    for name in grid.datasets:
        made.from_key("reader", features.datasets, Reader, f"data.sets.{name}", params.data.sets[name])
    protocols = {
        name: made.from_key("protocol", pipeline.protocols, Protocol, f"tasks.{name}", params.tasks[name])
        for name in grid.tasks
    }
    methods: dict[str, Method | None] = {}
    for dataset in grid.datasets:  # which a value may depend on
        for name in grid.generators:
            made.from_block(pipeline.generators, name, Generator, *params.block("generators", name, dataset))
        for name in dict.fromkeys([*grid.methods, *grid.synthetic_methods]):
            methods[name] = made.from_block(pipeline.methods, name, Method, *params.block("methods", name, dataset))
    raise_all([*made.problems, *_misfits(params, protocols, methods)], f"{PATH} cannot be run")


def check_all(runs: Sequence[Params]) -> None:
    """`check` what one or several runs name, and then their data.

    Raises:
        InputError: lists every mistake of all of them, and every fault of the data.
    """
    problems = Problems()
    for params in runs:
        problems.attempt(partial(check, params))
    problems.attempt(partial(check_data, runs))
    raise_all(problems.messages, "nothing was started")


def check_data(runs: Sequence[Params]) -> None:
    """See that the images are there and what they should be, of each data set that has not been indexed yet.

    No file is opened but lists and splits; stage `index` hashes the images.

    Raises:
        InputError: lists all that is wrong with all data sets.
    """
    named = [(name, params.data.sets[name], params.data.root) for params in runs for name in params.grid.datasets]
    once = [one for place, one in enumerate(named) if one not in named[:place]]
    wanted = [one for one in once if not index(one[0]).exists()]  # the index is all that is needed from there on
    raise_all(
        [fault for one in wanted for fault in _faults(*one)],
        "data are not as they should be; if a colleague has the features, `dvc pull` does without the images",
    )


def _faults(name: str, spec: Mapping[str, Any], root: str) -> Iterator[str]:
    """What is wrong with the copy of a data set, as one text; `check` tells of mistakes in its block."""
    problems = Problems()
    reader = Problems().attempt(lambda: reader_from(spec, name))
    listing = problems.attempt(lambda: reader.read(Path(root))) if reader else None
    found = [*problems.messages, *(mistakes(listing) if listing else ())]
    if found:
        yield str(combined_error(found, name)).replace("\n", "\n    ")


class _Made:
    """Settings made one after the other, with the mistakes of all of them kept."""

    def __init__(self) -> None:
        self.problems: dict[str, None] = {}  # a mistake that several data sets share is one

    def from_block(self, package: ModuleType, name: str, base: type[S], values: object, where: str) -> S | None:
        """The class that the file `name` defines, made from its block; None after a mistake."""
        try:
            return parse(find(package, name, base), values, where)
        except InputError as error:
            self.problems[str(error).replace("\n", "\n    ")] = None
            return None

    def from_key(self, key: str, package: ModuleType, base: type[S], where: str, block: dict[str, Any]) -> S | None:
        """The same for a block that says in `key` which file it is for."""
        name = block.get(key)
        if isinstance(name, str) and name in names(package):
            return self.from_block(package, name, base, block, f"{PATH}: {where}")
        folder = package.__name__.replace(".", "/")
        said = f"no file {name!r} in {folder}" if key in block else f"missing; a file in {folder}"
        self.problems[f"{where}.{key}: {said}; {nearest(str(name or ''), names(package))}"] = None
        return None


def _misfits(
    params: Params, protocols: Mapping[str, Protocol | None], methods: Mapping[str, Method | None]
) -> list[str]:
    """What each block allows and the grid as a whole does not."""
    grid, problems = params.grid, []
    if params.extract.engine == "ray" and importlib.util.find_spec("ray") is None:
        problems.append("extract.engine: 'ray' is not installed: pip install 'shipyard-clip[ray]', or set it to local")
    if AVERAGE in grid.datasets:
        problems.append(f"grid.datasets: {AVERAGE!r} is what tables call the mean over data sets; take another name")
    if "zero_shot" not in grid.methods:
        problems.append("grid.methods: lacks zero_shot, which every table stands on; add it, it needs no training")
    blind = [name for name, made in methods.items() if made and made.needs_patches]
    if blind and not params.extract.patch_tokens:
        problems.append(
            f"grid.methods: {', '.join(blind)} reads patch tokens, which are stored only if asked for: set "
            "extract.patch_tokens: true; `extract` says what they take on disk before it makes them"
        )
    deaf = [name for name in grid.synthetic_methods if (made := methods[name]) and not made.takes_synthetic]
    able = [name for name, made in methods.items() if made and made.takes_synthetic]
    problems += [
        f"grid.synthetic_methods: {name!r} has no use for synthetic features; remove it. "
        f"Methods of the grid that have: {', '.join(able) or 'none'}"
        for name in deaf
    ]
    problems += [
        f"tasks.{task}: is of the data set {task!r} alone; run it alone (`shipyard run {task}`), or take another task, "
        "such as --set 'grid.tasks=[base_to_new]'"
        for task in grid.tasks
        if task in params.data.sets and grid.datasets != [task]
    ]
    problems += _without_proxy(params)
    for task, protocol in protocols.items():
        if protocol is not None:
            problems += _misfits_of_task(params, task, protocol)
    return problems


def _without_proxy(params: Params) -> list[str]:
    """Tasks of `grid.select` that do not run or have no rehearsal, and a grid of rehearsals alone."""
    grid, problems = params.grid, []
    for name in grid.select:
        rehearsal = proxy_task(name)
        problems += [
            f"grid.select: {name!r} needs {task!r} in grid.tasks; add it there, or remove {name!r} here"
            for task in (name, rehearsal)
            if task not in grid.tasks
        ]
        protocol = params.tasks.get(rehearsal, {}).get("protocol", VALIDATION_PROXY)
        if protocol != VALIDATION_PROXY:
            problems.append(
                f"tasks.{rehearsal}: protocol {protocol!r} cannot choose for {name!r}; take {VALIDATION_PROXY!r}"
            )
    if not params.reported_tasks:
        problems.append("grid.tasks: these are rehearsals, which no test image judges; add the tasks themselves")
    return problems


def _misfits_of_task(params: Params, task: str, protocol: Protocol) -> list[str]:
    grid = params.grid
    missing = {other for name in grid.datasets for other in protocol.datasets(name)} - {*grid.datasets}
    problems = [
        f"tasks.{task}: needs {name!r} too; add it to grid.datasets"
        if name in params.data.sets
        else f"tasks.{task}: needs {name!r}, which is not in `data.sets`; {nearest(name, params.data.sets)}"
        for name in sorted(missing)
    ]
    if grid.generators and not protocol.has_unseen:
        problems.append(
            f"tasks.{task}: protocol {protocol.protocol!r} has no unseen class, so grid.generators "
            f"{grid.generators} have nothing to synthesize; run this task in a grid with generators: []"
        )
    return problems
