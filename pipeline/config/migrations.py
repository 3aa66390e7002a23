"""Names that older versions gave to settings, protocols, tasks and artifacts, and the names that replaced them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from features.errors import InputError

RENAMED = {"grid.choose": "grid.select", "projection": "visualization"}  # dotted key of params.yaml -> new key
REMOVED_PROTOCOLS = ("rehearsal", "validation_proxy")  # `grid.select` validates runs on folds without a task for it
RENAMED_FOLDERS = {"selection": "chosen"}  # folder in `artifacts/<encoder>` -> its old name


def renamed_settings(values: object) -> Iterator[str]:
    """Yield one line for each name in a params file that the current version has replaced.

    Args:
        values: the plain values of the file; anything but a mapping yields nothing.
    """
    if not isinstance(values, Mapping):
        return

    for old, new in RENAMED.items():
        if _has_key(values, old):
            yield f"{old} is now {new}"

    removed = {
        name
        for name, block in _block(values, "tasks").items()
        if isinstance(block, Mapping) and block.get("protocol") in REMOVED_PROTOCOLS
    }
    for name in sorted(map(str, removed)):
        yield f"tasks.{name}: remove this task; `grid.select` now needs none"

    tasks_of_grid = _block(values, "grid").get("tasks")
    for name in tasks_of_grid if isinstance(tasks_of_grid, list) else ():
        if name in removed:
            yield f"grid.tasks: remove {name}"


def current_name(key: str) -> str | None:
    """Return the current name of a renamed dotted key, or of a key below it; None if the key was not renamed."""
    for old, new in RENAMED.items():
        if f"{key}.".startswith(f"{old}."):
            return new + key[len(old) :]
    return None


def check_artifact_folder(path: Path, command: str) -> None:
    """Check that an artifact `<encoder>/<folder>/<dataset>/<task>.json` is not only present under its old folder name.

    Args:
        path: the file; nothing is checked if it exists.
        command: the command that writes it.

    Raises:
        InputError: the file is missing, and an older version wrote it into a folder that has been renamed.
    """
    encoder, folder, *rest = path.parts[-4:] if len(path.parts) >= 4 else ("", "", "")
    if path.exists() or folder not in RENAMED_FOLDERS:
        return
    older = path.parents[3] / encoder / RENAMED_FOLDERS[folder] / Path(*rest)
    if older.exists():
        raise InputError(f"{older} was written by an older version; run `{command}` to write {path}")


def _block(values: Mapping[object, object], key: str) -> Mapping[object, object]:
    """Return the mapping at `key`; an empty one if there is none."""
    block = values.get(key)
    return block if isinstance(block, Mapping) else {}


def _has_key(values: Mapping[object, object], key: str) -> bool:
    """Return whether a dotted key is present."""
    *path, last = key.split(".")
    for part in path:
        values = _block(values, part)
    return last in values
