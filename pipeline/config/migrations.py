"""Names that older versions gave to settings, protocols, tasks and artifacts, and the names that replaced them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from features.errors import InputError

RENAMED = {"grid.choose": "grid.select", "projection": "visualization"}  # dotted key of params.yaml -> new key
RENAMED_PROTOCOLS = {"rehearsal": "validation_proxy"}
RENAMED_SUFFIXES = {"_rehearsal": "_proxy"}  # end of a task's name -> new end
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

    for name, block in _block(values, "tasks").items():
        protocol = block.get("protocol") if isinstance(block, Mapping) else None
        if isinstance(protocol, str) and protocol in RENAMED_PROTOCOLS:
            yield f"tasks.{name}.protocol: {protocol} is now {RENAMED_PROTOCOLS[protocol]}"

    renamed_tasks = _renamed_tasks(_block(values, "tasks"))
    for name, new in renamed_tasks.items():
        yield f"tasks.{name} is now tasks.{new}"

    tasks_of_grid = _block(values, "grid").get("tasks")
    for name in tasks_of_grid if isinstance(tasks_of_grid, list) else ():
        if isinstance(name, str) and name in renamed_tasks:
            yield f"grid.tasks: {name} is now {renamed_tasks[name]}"


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


def _renamed_tasks(tasks: Mapping[object, object]) -> dict[str, str]:
    """Return old name -> new name of the tasks whose suffix has changed.

    A suffix alone proves nothing, because users name their tasks. The task must also have the protocol that goes with
    the suffix, by its old or its new name: the file may have been edited halfway.
    """
    protocols = {*RENAMED_PROTOCOLS, *RENAMED_PROTOCOLS.values()}
    renamed: dict[str, str] = {}
    for name, block in tasks.items():
        if not isinstance(name, str) or not isinstance(block, Mapping) or block.get("protocol") not in protocols:
            continue
        for old, new in RENAMED_SUFFIXES.items():
            if name.endswith(old):
                renamed[name] = name.removesuffix(old) + new
    return renamed


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
