"""The house rules that a reader relies on and that no other tool watches."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import features.datasets
import pipeline.generators
import pipeline.methods
import pipeline.protocols
from features.lookup import find, names
from features.settings import Settings
from pipeline.config import params
from pipeline.generators.base import Generator
from pipeline.methods.base import Method

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("features", "pipeline", "stages")  # each may import itself and those before it
HEAVY = ("open_clip", "matplotlib", "dvc", "torchvision")
SOURCES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in SOURCES]
PLUGINS = (features.datasets, pipeline.generators, pipeline.methods, pipeline.protocols)
SHIPPED = params.load(ROOT / "params.yaml")

every_source = pytest.mark.parametrize("path", SOURCES, ids=IDS)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(nodes: Iterator[ast.AST] | list[ast.stmt]) -> Iterator[str]:
    """Dotted names of what is imported."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@every_source
def test_layers_are_never_climbed(path: Path) -> None:
    layer = LAYERS.index(path.relative_to(ROOT).parts[0])
    above = {name for name in imported(ast.walk(tree(path))) if name.partition(".")[0] in LAYERS[layer + 1 :]}
    assert not above, f"{path.relative_to(ROOT)} imports from a layer above its own"


@every_source
def test_heavy_imports_stand_in_the_function_that_needs_them(path: Path) -> None:
    assert not [name for name in imported(tree(path).body) if name.partition(".")[0] in HEAVY]


@every_source
def test_only_params_opens_params_yaml(path: Path) -> None:
    strings = {node.value for node in ast.walk(tree(path)) if isinstance(node, ast.Constant)}
    assert "params.yaml" not in strings or path == ROOT / "pipeline/config/params.py"


@every_source
def test_sizes(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= (60 if path.parent.name == "stages" else 250)
    functions = [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef)]
    long = {node.name: size for node in functions if (size := _lines_of_code(node)) > 40}
    assert not long, f"functions of more than 40 lines: {long}"


def _lines_of_code(function: ast.FunctionDef) -> int:
    first = function.body[1] if ast.get_docstring(function) and len(function.body) > 1 else function.body[0]
    return (function.end_lineno or 0) - first.lineno + 1


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=str)
def test_init_files_are_empty(path: Path) -> None:
    assert path.read_bytes() == b""


@pytest.mark.parametrize("package", PLUGINS, ids=lambda package: package.__name__)
def test_a_file_that_is_found_by_name_imports_no_sibling(package: object) -> None:
    name = package.__name__  # type: ignore[attr-defined]
    for path in (ROOT / name.replace(".", "/")).glob("*.py"):
        siblings = [found for found in imported(ast.walk(tree(path))) if found.startswith(f"{name}.")]
        assert not [found for found in siblings if not found.startswith(f"{name}.base.")], path


def test_help_needs_no_tensors() -> None:
    code = (
        "import sys, pipeline.cli.app; print([name for name in ('torch', 'zarr', 'open_clip') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", names(pipeline.methods))
def test_params_yaml_shows_each_methods_defaults(name: str) -> None:
    _compare(name, find(pipeline.methods, name, Method), SHIPPED.methods)


@pytest.mark.parametrize("name", names(pipeline.generators))
def test_params_yaml_shows_each_generators_defaults(name: str) -> None:
    _compare(name, find(pipeline.generators, name, Generator), SHIPPED.generators)


def _compare(name: str, settings: type[Settings], shown: Mapping[str, dict[str, object]]) -> None:
    assert name in shown, f"show {name}'s settings in params.yaml, each with its unit and source"
    # Through JSON, in which a pair of numbers is the list that it is in YAML.
    plain = {key: value["default"] if isinstance(value, dict) else value for key, value in shown[name].items()}
    assert plain == settings().model_dump(mode="json")
