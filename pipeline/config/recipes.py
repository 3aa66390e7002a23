"""Recipes: files with settings of `params.yaml`, such as those in `papers/`, for `shipyard run --recipe`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from features.errors import InputError, nearest
from features.settings import Settings, parse


class Recipe(Settings):
    """Content of a recipe file.

    Attributes:
        title: one line that names the table or experiment.
        settings: dotted key of `params.yaml` -> value.
        runs: settings that differ between runs, for a table whose rows are settings. The default is one run without
            further settings.
    """

    title: str
    settings: dict[str, Any]
    runs: Annotated[list[dict[str, Any]], Field(min_length=1)] = Field(
        default_factory=lambda: list[dict[str, Any]]([{}])
    )

    def assignments(self) -> list[list[str]]:
        """Return the settings of each run as `key=value`, the input of `pipeline.config.overrides.apply`.

        A recipe that does not set `grid.select` sets it to `[]`: tasks that an earlier run selected for are not in the
        grid of the recipe.
        """
        runs = ({"grid.select": [], **self.settings, **run} for run in self.runs)
        return [[f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in run.items()] for run in runs]

    def left_over(self, text: str, committed: str) -> list[str]:
        """Return settings that differ from the committed ones and that the recipe does not set.

        An earlier recipe or `--set` left them in `params.yaml`, so they influence the result of this recipe.
        `data.root` and `compute` are left out, because they change no result.

        Args:
            text: the current text of `params.yaml`.
            committed: its text in the last commit.

        Returns:
            One line per setting: `key: committed value -> current value`.
        """
        current, original = _flatten(text), _flatten(committed)
        set_here = [*self.settings, *(key for run in self.runs for key in run), "grid.select", "data.root", "compute"]

        lines = []
        for key, value in current.items():
            # A setting of a block covers all of its keys.
            covered = any(f"{key}.".startswith(f"{other}.") for other in set_here)
            if key in original and value != original[key] and not covered:
                lines.append(f"{key}: {original[key]} -> {value}")
        return lines


def experiment(path: Path) -> str:
    """Return the name of a recipe for experiments, which are git references: without spaces and most punctuation."""
    return re.sub(r"[^\w.]+|\.{2,}", "-", path.stem).strip("-.") or "recipe"


def read(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        InputError: the file does not exist, is not YAML, or does not have the fields of `Recipe`.
    """
    try:
        values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        others = [str(other) for other in path.parent.glob("*.yaml")]
        raise InputError(f"recipe {path} not found; {nearest(str(path), others)}") from None
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        # The parser's message has a second paragraph with advice on how to suppress the error.
        message = str(error).partition("\n\n")[0]
        raise InputError(f"cannot read {path} as YAML: {message}") from error
    return parse(Recipe, values, str(path))


def _flatten(text: str) -> dict[str, str]:
    """Return dotted key -> value as JSON of every setting of a params file."""
    flat: dict[str, str] = {}
    blocks: list[tuple[str, Any]] = [("", YAML(typ="safe", pure=True).load(text))]
    while blocks:
        key, value = blocks.pop(0)
        if isinstance(value, dict) and value:
            blocks += [(f"{key}.{name}".lstrip("."), child) for name, child in value.items()]
        else:
            flat[key] = json.dumps(value, ensure_ascii=False)
    return flat
