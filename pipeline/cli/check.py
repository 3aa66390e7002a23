"""Check everything that `params.yaml` names before any work starts, and report all mistakes together.

`params.load` checks the blocks that every run needs. The options of a reader, a protocol, a generator or a method are
declared in its own file. Here each of these files is imported and parses its block.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import features.datasets
import pipeline.generators
import pipeline.methods
import pipeline.protocols
from features.datasets.base import Listing, Reader, reader_from
from features.errors import InputError, Problems, combined_error, nearest, raise_all
from features.index import ClassNames, read_names
from features.listing_checks import mistakes
from features.lookup import find, names
from features.settings import Settings, parse
from pipeline.artifacts.paths import ROOT, EncoderPaths, index
from pipeline.artifacts.paths import names as names_path
from pipeline.artifacts.scores import AVERAGE
from pipeline.cli.check_encoder import encoder_conflicts, prompt_room
from pipeline.cli.check_views import view_conflicts
from pipeline.config.params import PATH, Params
from pipeline.generators.base import Generator
from pipeline.methods.base import Method
from pipeline.protocols.base import Protocol

S = TypeVar("S", bound=Settings)


def check(params: Params) -> None:
    """Import and parse everything that the grid names, and check that it fits together.

    Raises:
        InputError: lists every mistake in every block.
    """
    grid = params.grid
    blocks = Blocks()

    for name in grid.datasets:
        blocks.parse_by_key("reader", features.datasets, Reader, f"data.sets.{name}", params.data.sets[name])

    protocols: dict[str, Protocol | None] = {}
    methods: dict[str, Method | None] = {}
    for dataset in grid.datasets:
        for name in grid.tasks:
            values, _ = params.block("tasks", name, dataset)
            protocols[name] = blocks.parse_by_key("protocol", pipeline.protocols, Protocol, f"tasks.{name}", values)
        of_dataset, _ = learners(params, dataset, blocks)
        methods |= of_dataset

    trained_on = {protocol.trained_on(name) for protocol in protocols.values() if protocol for name in grid.datasets}
    views = (
        line for name in sorted(trained_on) for line in view_conflicts(params, name, *learners(params, name, blocks))
    )
    conflicts = [*_conflicts(params, protocols, methods), *encoder_conflicts(params, methods), *dict.fromkeys(views)]
    problems = [*blocks.problems, *conflicts]
    raise_all(problems, f"{PATH} is invalid")


def learners(
    params: Params, dataset: str, blocks: Blocks
) -> tuple[dict[str, Method | None], dict[str, Generator | None]]:
    """Return the methods and generators of the grid, whose values may depend on the data set; None after a mistake."""
    grid = params.grid
    generators = {
        name: blocks.parse(pipeline.generators, name, Generator, *params.block("generators", name, dataset))
        for name in grid.generators
    }
    methods = {
        name: blocks.parse(pipeline.methods, name, Method, *params.block("methods", name, dataset))
        for name in dict.fromkeys([*grid.methods, *grid.synthetic_methods])
    }
    return methods, generators


def check_all(runs: Sequence[Params]) -> None:
    """Run `check` and `unusable_folders` on the settings of each run, and `check_data` on all of them.

    Raises:
        InputError: lists every mistake in all settings, and every problem of the data and of folders of outputs.
    """
    problems = Problems()
    for params in runs:
        problems.attempt(partial(check, params))
    problems.attempt(partial(check_data, runs))
    folders = dict.fromkeys(line for params in runs for line in unusable_folders(params))
    problems.attempt(partial(raise_all, list(folders), "stages cannot write their outputs"))
    raise_all(problems.messages, "nothing was started")


def unusable_folders(params: Params) -> Iterator[str]:
    """Yield folders of outputs that are links out of the project: DVC would refuse an output after its stage has run.

    An output itself may be a link.
    """
    encoder, here = params.artifacts, Path.cwd().resolve()
    parents = [
        ROOT,
        ROOT / "index",
        encoder,
        *(path for depth in ("*", "*/*", "*/*/*") for path in encoder.glob(depth)),
    ]
    paths = EncoderPaths(encoder)
    outputs = {paths.report, *(paths.features(name) for name in params.grid.datasets)}
    for path in parents:
        if path in outputs or not path.is_symlink():
            continue
        if path.is_dir() and not path.resolve().is_relative_to(here):
            yield (
                f"{path} is a link to {path.resolve()}, and DVC records no output outside of the project. Move the "
                "folder back. To save space, put DVC's cache on the other disk and link its files: `dvc cache dir "
                "--local FOLDER`, `dvc config --local cache.type symlink`"
            )
    for path in (ROOT, ROOT / "index", encoder):
        if os.path.lexists(path) and not path.is_dir():
            yield f"{path} is not a folder, but outputs are written below it; move it away"


def check_data(runs: Sequence[Params]) -> None:
    """Check the images of each data set that has not been indexed yet, and that all class names fit into prompts.

    Only lists and split files are opened. Stage `index` hashes the images, and no later stage needs more of a data set
    than its index.

    Raises:
        InputError: lists every problem of every data set.
    """
    problems: list[str] = []
    checked: list[tuple[tuple[str, Mapping[str, Any], str], Listing | None]] = []
    for params in runs:
        for name in params.grid.datasets:
            dataset = (name, params.data.sets[name], params.data.root)
            if index(name).exists():
                texts: ClassNames | Listing | None = Problems().attempt(partial(read_names, names_path(name)))
            else:
                if dataset not in (known for known, _ in checked):
                    listing, messages = _listing(*dataset)
                    checked.append((dataset, listing))
                    problems += messages
                texts = next(listing for known, listing in checked if known == dataset)
            if texts is not None:
                problems += prompt_room(params, name, texts, *learners(params, name, Blocks()))

    raise_all(
        problems, "missing or invalid data; if a colleague has extracted the features, `dvc pull` replaces the images"
    )


def _listing(name: str, spec: Mapping[str, Any], root: str) -> tuple[Listing | None, list[str]]:
    """Return the listing of a copy of a data set, if it can be read, and its problems as at most one text.

    `check` reports mistakes in its block.
    """
    problems = Problems()
    reader = Problems().attempt(lambda: reader_from(spec, name))
    listing = problems.attempt(lambda: reader.read(Path(root))) if reader else None

    messages = [*problems.messages, *(mistakes(listing) if listing else ())]
    return listing, [str(combined_error(messages, name)).replace("\n", "\n    ")] if messages else []


class Blocks:
    """Blocks of `params.yaml`, parsed one after the other, with the mistakes of all of them."""

    def __init__(self) -> None:
        self.problems: dict[str, None] = {}  # ordered and unique: several data sets may share a mistake

    def parse(self, package: ModuleType, name: str, base: type[S], values: object, where: str) -> S | None:
        """Return the settings class of the file `name`, made from its block; None after a mistake."""
        try:
            return parse(find(package, name, base), values, where)
        except InputError as error:
            self.problems[str(error).replace("\n", "\n    ")] = None
            return None

    def parse_by_key(self, key: str, package: ModuleType, base: type[S], where: str, block: dict[str, Any]) -> S | None:
        """Return the same for a block whose value at `key` is the name of the file."""
        name = block.get(key)
        if isinstance(name, str) and name in names(package):
            return self.parse(package, name, base, block, f"{PATH}: {where}")

        folder = package.__name__.replace(".", "/")
        problem = (
            f"no file {name!r} in {folder}" if key in block else f"missing; expected the name of a file in {folder}"
        )
        self.problems[f"{where}.{key}: {problem}; {nearest(str(name or ''), names(package))}"] = None
        return None


def _conflicts(
    params: Params, protocols: Mapping[str, Protocol | None], methods: Mapping[str, Method | None]
) -> Iterator[str]:
    """Yield one line for each setting that is valid by itself but not in this grid."""
    grid = params.grid
    if params.extract.engine == "ray" and importlib.util.find_spec("ray") is None:
        yield "extract.engine: ray is not installed; run: pip install -e '.[ray]', or set extract.engine to local"
    if AVERAGE in grid.datasets:
        yield f"grid.datasets: {AVERAGE!r} is reserved for the mean over data sets; use another name"

    yield from _method_conflicts(params, methods)

    for task in grid.tasks:
        if task in params.data.sets and grid.datasets != [task]:
            yield (
                f"tasks.{task}: this task works only on the data set {task!r}; run `shipyard run {task}`, or use "
                "another task, for example --set 'grid.tasks=[base_to_new]'"
            )

    yield from _selection_conflicts(params, protocols)
    for task, protocol in protocols.items():
        if protocol is not None:
            yield from _task_conflicts(params, task, protocol)


def _method_conflicts(params: Params, methods: Mapping[str, Method | None]) -> Iterator[str]:
    """Yield one line for each problem with the methods of the grid; a method is None if its block is invalid."""
    grid = params.grid
    valid = {name: method for name, method in methods.items() if method is not None}

    if "zero_shot" not in grid.methods:
        yield (
            "grid.methods: zero_shot is required: every table reports it as the baseline. Add it; it needs no training"
        )

    need_patches = [name for name, method in valid.items() if method.needs_patches]
    if need_patches and not params.extract.patch_tokens:
        yield (
            f"grid.methods: {', '.join(need_patches)} needs patch tokens, which are not stored by default; set "
            "extract.patch_tokens: true. Stage `extract` prints their size on disk before it computes them"
        )

    supported = [name for name, method in valid.items() if method.takes_synthetic]
    unsupported = [name for name in grid.synthetic_methods if name in valid and name not in supported]
    for name in unsupported:
        yield (
            f"grid.synthetic_methods: {name!r} does not accept synthetic features; remove it. "
            f"Methods of the grid that do: {', '.join(supported) or 'none'}"
        )


def fold_cost(params: Params) -> Iterator[str]:
    """Yield a line with the number of fits that `grid.select` adds; DVC repeats only those whose inputs changed."""
    grid = params.grid
    if grid.select:
        runs = len(grid.methods) + len(grid.generators) * len(grid.synthetic_methods)
        fits = 2 * len(grid.datasets) * len(grid.select) * len(grid.seeds) * (runs + len(grid.generators))
        yield (
            f"grid.select: {fits} more fits at most, each to half of the seen classes, choose the offset of every run "
            "and the run for new images (docs/balance.md)"
        )


def _selection_conflicts(params: Params, protocols: Mapping[str, Protocol | None]) -> Iterator[str]:
    """Yield one line for each task of `grid.select` that is not run, or whose runs are not judged among all classes."""
    for name in params.grid.select:
        if name not in params.grid.tasks:
            yield f"grid.select: {name!r} is not in grid.tasks; add it there, or remove it here"

        protocol = protocols.get(name)
        if protocol is not None and not protocol.among_all:
            yield (
                f"grid.select: {name!r} has the protocol {protocol.protocol!r}, which does not classify images among "
                "seen and unseen classes together, so there is nothing to balance; remove it here"
            )


def _task_conflicts(params: Params, task: str, protocol: Protocol) -> Iterator[str]:
    """Yield one line for each problem of one task with the data sets and generators of the grid."""
    grid = params.grid
    needed = {other for name in grid.datasets for other in protocol.datasets(name)}
    for name in sorted(needed - {*grid.datasets}):
        if name in params.data.sets:
            yield f"tasks.{task}: needs the data set {name!r} too; add it to grid.datasets"
        else:
            yield (
                f"tasks.{task}: needs the data set {name!r}, which is not in `data.sets`; "
                f"{nearest(name, params.data.sets)}"
            )

    if grid.generators and not protocol.has_unseen:
        yield (
            f"tasks.{task}: protocol {protocol.protocol!r} has no unseen classes, so grid.generators "
            f"{grid.generators} cannot be used; run this task with grid.generators: []"
        )
