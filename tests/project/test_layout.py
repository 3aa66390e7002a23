"""Rules of the code's structure that no other tool checks: layers, imports, sizes, and the defaults in params.yaml."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from longest_files import LONGEST_FILES
from project_root import ROOT

import features.datasets
import pipeline.generators
import pipeline.methods
import pipeline.protocols
from features.lookup import find, names
from features.settings import Settings
from pipeline.config import params
from pipeline.generators.base import Generator
from pipeline.methods.base import Method

LAYERS = ("features", "pipeline", "stages")  # each imports only itself and the layers before it
HEAVY = ("open_clip", "matplotlib", "dvc", "torchvision")
SOURCES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in SOURCES]
PLUGINS = (features.datasets, pipeline.generators, pipeline.methods, pipeline.protocols)
SHIPPED = params.load(ROOT / "params.yaml")

every_source = pytest.mark.parametrize("path", SOURCES, ids=IDS)


def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a source."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(nodes: Iterator[ast.AST] | list[ast.stmt]) -> Iterator[str]:
    """Yield the dotted name of each import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@every_source
def test_no_module_imports_from_a_higher_layer(path: Path) -> None:
    layer = LAYERS.index(path.relative_to(ROOT).parts[0])
    above = {name for name in imported(ast.walk(tree(path))) if name.partition(".")[0] in LAYERS[layer + 1 :]}
    assert not above, f"{path.relative_to(ROOT)} imports from a higher layer"


@every_source
def test_heavy_libraries_are_imported_in_functions(path: Path) -> None:
    assert not [name for name in imported(tree(path).body) if name.partition(".")[0] in HEAVY]


@every_source
def test_only_one_module_names_params_yaml(path: Path) -> None:
    strings = {node.value for node in ast.walk(tree(path)) if isinstance(node, ast.Constant)}
    assert "params.yaml" not in strings or path == ROOT / "pipeline/config/params.py"


@every_source
def test_files_and_functions_are_short(path: Path) -> None:
    """Count lines of code only: blank lines, comments and docstrings help a reader, so they are free."""
    code = lines_of_code(path.read_text(encoding="utf-8"))
    limit = 60 if path.parent.name == "stages" else 250
    assert len(code) <= limit, f"{len(code)} lines of code; the limit is {limit}"

    long = {}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = range(node.body[0].lineno, (node.end_lineno or 0) + 1)
            size = len(code.intersection(body))
            if size > 40:
                long[node.name] = size
    assert not long, f"functions of more than 40 lines of code: {long}"


def lines_of_code(source: str) -> set[int]:
    """Return the numbers of the lines that hold code: no blank lines, no comments, no docstrings."""
    layout = {tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in layout:
            code.update(range(token.start[0], token.end[0] + 1))

    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            code.difference_update(range(docstring.lineno, (docstring.end_lineno or 0) + 1))
    return code


def test_blank_lines_comments_and_docstrings_are_not_code() -> None:
    source = '''"""Module."""

# comment
def f(x):
    """Docstring
    of two lines."""

    # comment
    text = """a string

    of three lines"""  # comment
    return g(
        x,
    )
'''
    assert lines_of_code(source) == {4, 9, 10, 11, 12, 13, 14}


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=str)
def test_init_files_are_empty(path: Path) -> None:
    assert path.read_bytes() == b""


@pytest.mark.parametrize("package", PLUGINS, ids=lambda package: package.__name__)
def test_a_module_that_is_looked_up_by_name_imports_no_sibling(package: object) -> None:
    """Siblings may be removed; `base` and the modules whose names begin with `_` are shared."""
    name = package.__name__  # type: ignore[attr-defined]
    for path in (ROOT / name.replace(".", "/")).glob("*.py"):
        imports = [full for full in imported(ast.walk(tree(path))) if full.startswith(f"{name}.")]
        siblings = {full.removeprefix(f"{name}.").partition(".")[0] for full in imports}
        named = {sibling for sibling in siblings if sibling != "base" and not sibling.startswith("_")}
        assert not named, path


def test_help_imports_no_tensor_library() -> None:
    code = (
        "import sys, pipeline.cli.app; print([name for name in ('torch', 'zarr', 'open_clip') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", names(pipeline.methods))
def test_params_yaml_has_the_defaults_of_each_method(name: str) -> None:
    _compare(name, find(pipeline.methods, name, Method), SHIPPED.methods)


@pytest.mark.parametrize("name", names(pipeline.generators))
def test_params_yaml_has_the_defaults_of_each_generator(name: str) -> None:
    _compare(name, find(pipeline.generators, name, Generator), SHIPPED.generators)


def _compare(name: str, settings: type[Settings], shown: Mapping[str, dict[str, object]]) -> None:
    assert name in shown, f"add a block for {name} to params.yaml, each setting with its unit and source"
    # The defaults go through JSON, which turns a tuple into a list, as it is in YAML.
    plain = {key: value["default"] if isinstance(value, dict) else value for key, value in shown[name].items()}
    assert plain == settings().model_dump(mode="json")


def test_the_files_that_run_first_exist() -> None:
    files = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(LONGEST_FILES) <= files
