"""Recipes: settings of `params.yaml` in a file, such as those of `papers/`, for `shipyard run --recipe`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from features.errors import InputError, nearest
from features.settings import Settings, parse


class Recipe(Settings):
    """What a recipe's file says.

    Attributes:
        title: what it makes, on a line.
        settings: dotted key of `params.yaml` -> value.
        runs: settings that differ, one run after the other, for a table whose rows are settings; one run without any.
    """

    title: str
    settings: dict[str, Any]
    runs: Annotated[list[dict[str, Any]], Field(min_length=1)] = Field(
        default_factory=lambda: list[dict[str, Any]]([{}])
    )

    def assignments(self) -> list[list[str]]:
        """Each run's `key=value`, as `pipeline.config.overrides.apply` takes them; one that names no choice makes none."""
        runs = ({"grid.select": [], **self.settings, **run} for run in self.runs)
        return [[f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in run.items()] for run in runs]

    def left_over(self, text: str, committed: str) -> list[str]:
        """Settings that differ from the committed ones and that the recipe does not set, as `key: theirs -> ours`.

        What an earlier recipe or `--set` wrote stays in `params.yaml`, so it is part of what this one makes.
        `data.root` and `compute` change no result.
        """
        now, then = _flat(text), _flat(committed)
        own = (*self.settings, *(key for run in self.runs for key in run), "grid.select", "data.root", "compute")
        return [
            f"{key}: {then[key]} -> {value}"
            for key, value in now.items()
            if value != then.get(key, value) and not any(f"{key}.".startswith(f"{mine}.") for mine in own)
        ]


def read(path: Path) -> Recipe:
    """Read a recipe's file.

    Raises:
        InputError: there is no such file, it is not YAML, or it says something else than `Recipe` has.
    """
    try:
        return parse(Recipe, YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")), str(path))
    except FileNotFoundError:
        others = [str(other) for other in path.parent.glob("*.yaml")]
        raise InputError(f"there is no recipe {path}; {nearest(str(path), others)}") from None
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise InputError(f"{path} cannot be read as YAML: {str(error).partition(chr(10) * 2)[0]}") from error


def _flat(text: str) -> dict[str, str]:
    """Dotted key -> value as JSON, of every setting."""
    found: dict[str, str] = {}
    todo: list[tuple[str, Any]] = [("", YAML(typ="safe", pure=True).load(text))]
    while todo:
        key, value = todo.pop(0)
        if isinstance(value, dict) and value:
            todo += [(f"{key}.{name}".lstrip("."), inner) for name, inner in value.items()]
        else:
            found[key] = json.dumps(value, ensure_ascii=False)
    return found
