"""Refuse an output whose inputs changed while its stage was at work.

DVC records the settings and deps that it finds when a stage has ended. If someone edits params.yaml meanwhile, the
record says the new values, and the output, which is made of the old ones, counts as up to date for good.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from features.errors import InputError
from features.formats.files import before_replacing
from pipeline.config.params import PATH, plain_values

PIPELINE = Path("dvc.yaml")
VARIABLE = re.compile(r"\$\{(item|grid)\.(\w+)\}")
Stat = tuple[int, int, int]  # of a file: when it was changed (ns), its size, its inode


def watch_inputs(stage: str, options: Mapping[str, object]) -> None:
    """From now on, check before each output of a stage gets its name that what it was made of is as it was.

    Args:
        stage: name of the stage's module.
        options: of the stage: `dataset`, `task`, `method`, `generator`.
    """
    if not PIPELINE.is_file() or not PATH.is_file():
        return  # the stage itself reports that
    inputs = _Inputs.of(stage, options)
    if inputs is not None:
        before_replacing(inputs.check)


@dataclass(frozen=True)
class _Inputs:
    """What a stage reads: values of settings by their dotted keys, and the state of each file among its deps."""

    settings: Mapping[str, object]
    params_file: Stat
    files: Mapping[Path, Stat | None]

    @classmethod
    def of(cls, stage: str, options: Mapping[str, object]) -> _Inputs | None:
        """Read what dvc.yaml names for a stage; None for a stage that it does not have."""
        stages = YAML(typ="safe").load(PIPELINE.read_text(encoding="utf-8"))["stages"]
        name = f"{stage}_synthetic" if options.get("generator") and f"{stage}_synthetic" in stages else stage
        if name not in stages:
            return None

        state = _stat(PATH)
        values = plain_values()
        grid = values.get("grid", {}) if isinstance(values, dict) else {}

        def resolved(template: str) -> str:
            return VARIABLE.sub(lambda found: str((options if found[1] == "item" else grid).get(found[2])), template)

        keys = [resolved(key) for key in stages[name].get("params", [])]
        deps = [Path(resolved(dep)) for dep in stages[name].get("deps", [])]
        files = {path: _stat(path) for dep in deps for path in _files(dep)}
        return cls({key: _value(values, key) for key in keys}, state or (0, 0, 0), files)

    def check(self) -> None:
        """Compare with what is there now.

        Raises:
            InputError: lists every setting and every file that changed.
        """
        changed = [str(path) for path, state in self.files.items() if _stat(path) != state]
        if _stat(PATH) != self.params_file:
            values = plain_values()
            changed += [f"{PATH}: {key}" for key, value in self.settings.items() if _value(values, key) != value]
        if changed:
            raise InputError(
                f"inputs of this stage were changed while it was at work: {', '.join(changed)}. Nothing was written, "
                "because the output would belong to the old ones; run the stage again"
            )


def _value(values: object, key: str) -> Any:
    """Return the value at a dotted key; None where there is none."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _files(dep: Path) -> Iterator[Path]:
    if dep.is_dir():
        files = (path for path in sorted(dep.rglob("*")) if path.is_file())
        yield from (path for path in files if "__pycache__" not in path.parts)  # written by imports
    else:
        yield dep


def _stat(path: Path) -> Stat | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino
