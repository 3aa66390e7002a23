"""Stage `code`: a change of a source reaches the cells that import it, all of them and no others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_repo import PARAMS, make_repo, run, warm_path

from pipeline.config.params import load
from pipeline.steps import code
from pipeline.steps.code import INFRASTRUCTURE, ROOT, SINGLE, UNTRACKED, code_of, looked_up, write_digests

PARAMS_YAML = load(ROOT / "params.yaml")
CELLS = [(stage, None) for stage in SINGLE] + [
    (stage, module) for stage, modules in looked_up(PARAMS_YAML).items() for module in modules.values()
]

# Import each stage, and in a fork of that process each module that it looks up, and print which sources of ours that
# took: what Python really imports, to compare with what is read from the sources.
IMPORTED = """
import importlib, json, os, sys, traceback
import h5py, numpy, pyarrow.parquet, pydantic, rich.progress, ruamel.yaml, safetensors.torch, scipy, torch, typer, zarr

def in_fork(work):
    sys.stdout.flush()
    if not os.fork():
        try:
            work()
            sys.stdout.flush()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.wait()

def show(*modules):
    for module in modules:
        importlib.import_module(module)
    files = [getattr(m, "__file__", None) or "" for name, m in sys.modules.items() if name != "__main__"]
    ours = [os.path.relpath(f, sys.argv[1]) for f in files if f.startswith(sys.argv[1]) and "/.venv/" not in f]
    print(json.dumps([modules, ours]))

def stage(name, modules):
    importlib.import_module(f"stages.{name}")
    for module in modules:
        in_fork(lambda: show(f"stages.{name}", *module))

for name, modules in json.load(sys.stdin).items():
    in_fork(lambda: stage(name, modules))
"""


def tracked(stage: str, module: Path | None) -> set[str]:
    return {path.as_posix() for path in code.tracked(stage, *([module] if module else []))}


def test_every_module_that_a_cell_imports_is_tracked_but_for_those_with_a_reason() -> None:
    cells = {(f"stages.{stage}", *([_dotted(module)] if module else [])): (stage, module) for stage, module in CELLS}
    request: dict[str, list[list[str]]] = {stage: [] for stage, _ in CELLS}
    for stage, *modules in cells:
        request[stage.removeprefix("stages.")].append(modules)

    command = [sys.executable, "-c", IMPORTED, str(ROOT)]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=True, cwd=ROOT)
    assert not done.stderr
    answers = {tuple(modules): set(files) for modules, files in map(json.loads, done.stdout.splitlines())}
    assert set(answers) == set(cells)

    for modules, files in answers.items():
        stage, module = cells[modules]
        imported = {path for path in files if not path.endswith("__init__.py")}
        assert f"stages/{stage}.py" in imported
        assert imported - INFRASTRUCTURE - UNTRACKED.get(stage, frozenset()) <= tracked(stage, module), modules


def _dotted(module: Path) -> str:
    return ".".join(module.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("name", ["coop", "zero_shot", "tip_adapter"])
def test_a_method_tracks_itself_and_its_bases_and_no_other_method_or_generator(name: str) -> None:
    files = tracked("fit", ROOT / "pipeline/methods" / f"{name}.py")
    assert {f"pipeline/methods/{name}.py", "pipeline/methods/base.py"} <= files
    others = {file for file in files if file.startswith(("pipeline/methods/", "pipeline/generators/"))}
    assert {Path(file).stem for file in others if not Path(file).stem.startswith("_")} == {name, "base"}
    assert not [file for file in files if file.startswith("pipeline/generators/")]


def test_the_exempt_modules_exist() -> None:
    exempt = INFRASTRUCTURE.union(*UNTRACKED.values())
    assert [path for path in sorted(exempt) if not (ROOT / path).is_file()] == []


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the sources, which the digests are computed of."""
    for package in code.PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "ROOT", tmp_path)
    _forget()
    yield tmp_path
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    for cached in (code.imports, code.data_files, code.digest):
        cached.cache_clear()


def digests(out: Path) -> dict[str, str]:
    write_digests(PARAMS_YAML, out)
    return {path.relative_to(out).as_posix(): path.read_text(encoding="utf-8") for path in out.rglob("*.txt")}


def test_every_character_of_code_is_digested_and_no_comment_is(copy: Path) -> None:
    for source in (path for package in code.PACKAGES for path in (copy / package).rglob("*.*")):
        data, before = source.read_bytes(), code.digest(source)
        if not data:
            continue  # an __init__.py

        for more, same in ((b"0\n", False), (b"# A comment.\n\n", source.suffix == ".py")):
            source.write_bytes(data + more)
            code.digest.cache_clear()
            assert (code.digest(source) == before) is same, source
        source.write_bytes(data)


@pytest.mark.parametrize("name", ["pipeline/methods/coop.py", "features/errors.py", "features/datasets/dtd.json.gz"])
def test_a_changed_file_changes_the_digests_that_list_it_and_no_others(copy: Path, name: str) -> None:
    before = digests(copy / "out")
    (copy / name).write_bytes((copy / name).read_bytes() + b"0\n")
    code.digest.cache_clear()
    after = digests(copy / "out")
    changed = {cell for cell, text in after.items() if text != before[cell]}
    assert changed == {cell for cell, text in before.items() if f"  {name}\n" in text}
    assert bool(changed) is (name not in INFRASTRUCTURE)


TEXT = '''"""A module."""

import os  # for its name


class A:
    """A class.

    With more to say.
    """

    # One.
    x = "# no comment"

    def f(self) -> str:
        """Return."""
        return """

        # text, not a comment
        """
'''
CODE = '''import os
class A:
    x = "# no comment"
    def f(self) -> str:
        return """

        # text, not a comment
        """
'''


def test_comments_docstrings_and_blank_lines_are_no_code() -> None:
    assert code_of(TEXT) == CODE
    assert code_of(CODE) == CODE


# Make an empty file of each output that is not there, and call everything up to date.
COMMIT = """
from pathlib import Path
from dvc.repo import Repo
with Repo() as repo:
    for stage in repo.index.stages:
        for path in (Path(out.fs_path) for out in stage.outs):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.exists() or path.touch()
    repo.commit(force=True)
"""
# For each edit, print the cells that DVC calls changed once `code` has run.
STATUS = """
import json, sys
from pathlib import Path
from dvc.repo import Repo
from pipeline.artifacts.paths import CODE
from pipeline.config.params import load
from pipeline.steps import code
for sources, more in json.load(sys.stdin):
    texts = {source: Path(source).read_text() for source in sources}
    for source, text in texts.items():
        Path(source).write_text(text + more)
    code.digest.cache_clear()
    code.write_digests(load(), CODE)
    with Repo() as repo:
        status = repo.status()
    for source, text in texts.items():
        Path(source).write_text(text)
    stale = [cell for cell, why in status.items() if any("changed deps" in reason for reason in why)]
    print(json.dumps(sorted(set(stale) - {"code"})))
"""


METHODS = ("zero_shot", "coop", "tip_adapter")
FITS = {f"fit@mine-base_to_new-{name}" for name in METHODS} | {"fit_synthetic@mine-base_to_new-ship-coop"}
EVALUATIONS = {f"evaluate@mine-base_to_new-{name}" for name in METHODS} | {
    "evaluate_synthetic@mine-base_to_new-ship-coop"
}
VALIDATIONS = {cell.replace("fit", "validate", 1) for cell in FITS}
OF_METHODS = FITS | EVALUATIONS | VALIDATIONS
COOP = {cell for cell in OF_METHODS if cell.endswith("-coop")}
GENERATOR = {
    f"{stage}@mine-base_to_new-ship"
    for stage in ("train_generator", "synthesize", "evaluate_generator", "synthesize_folds")
}
REACHES = {
    "pipeline/methods/base.py": OF_METHODS,
    "pipeline/methods/coop.py": COOP,
    "pipeline/methods/kgcoop.py": set(),
    "pipeline/generators/base.py": GENERATOR,
    "pipeline/generators/_vae.py": GENERATOR,
    "pipeline/generators/ship.py": GENERATOR,
    "pipeline/protocols/base_to_new.py": {"build_task@mine-base_to_new"},
    "pipeline/protocols/few_shot.py": set(),
    "features/formats/matlab.py": set(),
    "features/datasets/image_folder.py": {"index@mine"},
    "features/datasets/food101.py": set(),
    "pipeline/report/tables.py": {"report"},
    "stages/select.py": {"select@mine-base_to_new"},
    "pipeline/metrics/offset.py": {"select@mine-base_to_new"},
    "pipeline/steps/evaluate_balanced.py": {"evaluate_balanced@mine-base_to_new"},
    "features/runtime/progress.py": set(),
    "pipeline/cli/app.py": set(),
}


def test_dvc_status_names_exactly_the_cells_that_import_what_changed(tmp_path: Path) -> None:
    grid = {**PARAMS["grid"], "select": ["base_to_new"]}
    repo = make_repo(tmp_path / "repo", {**PARAMS, "grid": grid})
    with warm_path():
        run(repo, "python", "-m", "stages.code")
    run(repo, sys.executable, "-c", COMMIT)

    edits = [([*REACHES], "# A comment.\n"), *(([source], "_EDITED = 1\n") for source in REACHES)]
    env = {**os.environ, "PYTHONPATH": str(repo)}
    command = [sys.executable, "-c", STATUS]
    done = subprocess.run(
        command, input=json.dumps(edits), cwd=repo, env=env, capture_output=True, text=True, check=True
    )
    commented, *stale = (set(json.loads(line)) for line in done.stdout.splitlines())
    assert commented == set()
    assert dict(zip(REACHES, stale, strict=True)) == REACHES
