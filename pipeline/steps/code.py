"""Stage `code`: digest the source that each stage runs, so that DVC reruns exactly the cells that a change reaches.

DVC follows no imports. A dep for each imported module would be exact, but DVC reads and writes every dep of every cell
around each stage, and a fit imports some fifty modules. So one file stands for all of them: a line for each module that
the stage imports, directly or through others, with the digest of its code. A cell has that one file as its dep.

Stages that look up a module by name (a reader, a protocol, a generator, a method) have a file for each name. A change
of `methods/coop.py` then reaches CoOp and nothing else. Comments, docstrings and blank lines are no code: a change of
them reaches nothing.
"""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pipeline.generators
import pipeline.methods
from features.formats.files import atomic_folder
from features.lookup import names
from pipeline.config.params import Params

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("features", "pipeline", "stages")

# These modules import others, stop on Ctrl-C, report progress and errors, and parse options. They decide no byte of an
# output, so no stage tracks them.
INFRASTRUCTURE = frozenset(
    {
        "features/errors.py",
        "features/runtime/commandline.py",
        "features/runtime/interruption.py",
        "features/runtime/lazy_open_clip.py",
        "features/runtime/progress.py",
        "features/runtime/ray_cluster.py",
        "features/runtime/watch.py",
        "pipeline/config/migrations.py",
        "pipeline/executor/stage_inputs.py",
        "stages/options.py",
        "stages/running.py",
        "stages/times.py",
    }
)

# What an expensive stage does not track besides, because a change there is common and cannot change its output.
# `extract`: DVC tracks each value of params.yaml by itself; a reader only says in which folder the images lie, and the
# sha256 of each image is compared with the index.
UNTRACKED: Mapping[str, frozenset[str]] = {
    "extract": frozenset(
        {
            "features/datasets/base.py",
            "features/lookup.py",
            "features/settings.py",
            "pipeline/artifacts/paths.py",
            "pipeline/config/params.py",
        }
    )
}

# Stages that look nothing up.
SINGLE = ("extract", "text_tower", "classes", "visualize_features", "select", "evaluate_balanced", "report")


def write_digests(params: Params, out: Path) -> None:
    """Write `<stage>.txt`, or `<stage>/<name>.txt` for each name that a stage looks up, into the folder `out`."""
    with atomic_folder(out) as part:
        for stage, modules in looked_up(params).items():
            (part / stage).mkdir()
            for name, module in modules.items():
                _write(part / stage / f"{name}.txt", tracked(stage, module))

        for stage in SINGLE:
            _write(part / f"{stage}.txt", tracked(stage))


def looked_up(params: Params) -> dict[str, dict[str, Path]]:
    """Return, for each stage that looks up a module by name, the names of its cells and the module of each.

    A data set names its reader and a task its protocol. The module may not exist; the stage then reports that.
    """
    readers = {name: _module("features/datasets", block.get("reader")) for name, block in params.data.sets.items()}
    protocols = {name: _module("pipeline/protocols", block.get("protocol")) for name, block in params.tasks.items()}
    methods = {name: _module("pipeline/methods", name) for name in names(pipeline.methods)}
    generators = {name: _module("pipeline/generators", name) for name in names(pipeline.generators)}
    return {
        "index": readers,
        "build_task": protocols,
        "train_generator": generators,
        "synthesize": generators,
        "evaluate_generator": generators,
        "synthesize_folds": generators,
        "fit": methods,
        "evaluate": methods,
        "validate": methods,
    }


def _module(folder: str, name: object) -> Path:
    return ROOT / folder / f"{name}.py"


def tracked(stage: str, *modules: Path) -> list[Path]:
    """Return the files that a stage and the modules that it looks up run, relative to the repository, sorted."""
    sources = closure(ROOT / "stages" / f"{stage}.py", *(module for module in modules if module.is_file()))
    files = {file for source in sources for file in (source, *data_files(source))}
    paths = {file.relative_to(ROOT) for file in files}
    return sorted(path for path in paths if path.as_posix() not in INFRASTRUCTURE | UNTRACKED.get(stage, frozenset()))


def _write(path: Path, files: Iterable[Path]) -> None:
    lines = [f"{digest(ROOT / file)}  {file.as_posix()}\n" for file in files]
    path.write_text("".join(lines), encoding="utf-8")


def closure(*sources: Path) -> set[Path]:
    """Return the sources themselves and all of this project's sources that they import, directly or not."""
    todo, done = list(sources), set[Path]()
    while todo:
        source = todo.pop()
        if source not in done:
            done.add(source)
            todo += imports(source)
    return done


@cache
def imports(source: Path) -> frozenset[Path]:
    """Return the project's sources that one source imports, also inside functions; not those for type checkers only."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    for_type_checkers = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in node.body
        for inner in ast.walk(child)
    }
    modules = {name for node in ast.walk(tree) if node not in for_type_checkers for name in _imported(node)}
    return frozenset(path for module in modules if (path := _source_of(module)) is not None)


def _imported(node: ast.AST) -> Iterator[str]:
    """Yield the dotted names that an import statement may mean: `from a import b` means `a` and `a.b`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _source_of(module: str) -> Path | None:
    """Return the source of a module of this project; None for a package, whose `__init__.py` is empty."""
    if module.partition(".")[0] not in PACKAGES:
        return None
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    return path if path.is_file() else None


@cache
def data_files(source: Path) -> tuple[Path, ...]:
    """Return the data files beside a module that carry its name, and those that carry no module's name."""
    stems = {file.stem for file in source.parent.glob("*.py")}
    others = [file for file in source.parent.iterdir() if file.is_file() and file.suffix not in (".py", ".pyc")]
    return tuple(file for file in others if _stem(file) == source.stem or _stem(file) not in stems)


def _stem(file: Path) -> str:
    return file.name.partition(".")[0]


@cache
def digest(file: Path) -> str:
    """Return the sha256 of a source's code, without comments, docstrings and blank lines, or of a data file's bytes."""
    data = file.read_bytes()
    if file.suffix == ".py":
        data = code_of(data.decode("utf-8")).encode("utf-8")
    return hashlib.sha256(data).hexdigest()


def code_of(text: str) -> str:
    """Return the lines of a Python source that hold code, without comments and docstrings.

    Only positions of tokens are used, not their texts, because tokens differ between versions of Python.
    """
    lines: list[str | None] = [*text.splitlines(keepends=True)]

    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        row, column = token.start
        if token.type == tokenize.COMMENT:
            lines[row - 1] = token.line[:column].rstrip() + "\n"
        elif token.type == tokenize.NL and not (lines[row - 1] or "").strip():
            lines[row - 1] = None  # a blank line, or one that held a comment alone

    for first, last in _docstrings(ast.parse(text)):
        lines[first - 1 : last] = [None] * (last - first + 1)
    return "".join(line for line in lines if line is not None)


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, int]]:
    """Yield the first and last line of each docstring that has its lines to itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if ast.get_docstring(node, clean=False) is None or first.end_lineno is None:
                continue
            alone = len(node.body) == 1 or node.body[1].lineno > first.end_lineno
            if alone and (isinstance(node, ast.Module) or first.lineno > node.lineno):
                yield first.lineno, first.end_lineno
