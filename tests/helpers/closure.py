"""Which of this project's modules a module imports, directly or through others, read from the sources."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("features", "pipeline", "stages")


def file_of(module: str) -> Path | None:
    """Return the source of a module of this project, or None for a package and for a library's module.

    A package needs no source here, because every `__init__.py` is empty.
    """
    if module.split(".", 1)[0] not in PACKAGES:
        return None
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    return path if path.is_file() else None


@cache
def imports(path: Path) -> frozenset[Path]:
    """Return the sources that one source imports anywhere in it, except those imported for type checkers only."""
    sources: set[Path | None] = set()
    type_checking: set[ast.AST] = set()

    # `ast.walk` is breadth-first, so an `if TYPE_CHECKING` is met before the imports below it.
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            type_checking.update(inner for child in node.body for inner in ast.walk(child))
        if node in type_checking:
            continue

        if isinstance(node, ast.Import):
            sources |= {file_of(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import name`: the name is a module of the package, or something in it.
            sources.add(file_of(node.module))
            sources |= {file_of(f"{node.module}.{alias.name}") for alias in node.names}
    return frozenset(source for source in sources if source)


def closure(*sources: Path) -> set[Path]:
    """Return the sources and all sources that they import, directly or not."""
    todo = list(sources)
    done: set[Path] = set()
    while todo:
        path = todo.pop()
        if path not in done:
            done.add(path)
            todo += imports(path)
    return done
