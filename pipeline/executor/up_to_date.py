"""Tell from the states of files that nothing has changed since DVC found every cell up to date.

For 300 cells DVC needs 8 seconds of CPU to tell this. `Checked` takes note of the files of a cell at the moment at
which DVC has checked or recorded it, and keeps that when all cells are done. `is_up_to_date` compares it with the files
that are there now. As for DVC, a file with the same time, size and inode is the same file, and a write-protected object
of the cache is whole. At any difference, DVC decides.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from features.errors import InputError
from features.formats.files import atomic_file
from pipeline.config.params import PATH as PARAMS
from pipeline.executor.repository import LOCK, TEMPORARY

RECORD = TEMPORARY / "up_to_date.json"
WITHOUT_PIPELINES = {"artifacts", "data", "__pycache__"}  # folders, some with millions of files
PROTECTED = 0o444  # mode of an object in DVC's cache

Stage = Any  # a `dvc.stage.Stage`; DVC has no types
State = tuple[int, int, int] | None  # of a file: when it was changed (ns), its size, its inode; None: it is not there


def is_up_to_date() -> bool:
    """Return whether all is as it was when DVC last found every cell up to date; False if that is not known."""
    try:
        record = json.loads(RECORD.read_text(encoding="utf-8"))
        return bool(record["digest"] == _digest(record["roots"]) and _are_protected(record["objects"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False


class Checked:
    """The files of the cells that DVC has checked or recorded, in the state in which they were then."""

    def __init__(self, repo: Any) -> None:
        """Take note of DVC's own files, before DVC reads them."""
        self.lock = str(LOCK.absolute())
        own = ["dvc.yaml", PARAMS, ".dvcignore", *repo.config.files.values()]
        self.roots = {str(Path(path).absolute()) for path in own}
        self.files = states(self.roots)
        self.pipelines = _pipelines()
        self.objects: dict[str, list[str]] = {}  # cell -> objects of the cache
        self.is_known = True  # whether all that decides about the cells is known

    def add(self, stage: Stage) -> None:
        """Take note of a cell that has just been checked or recorded; the caller holds DVC's lock."""
        local = all(file.fs.protocol == "local" for file in (*stage.deps, *stage.outs))
        if not local or stage.is_callback or stage.always_changed or (objects := _objects(stage)) is None:
            self.is_known = False
            return

        deps, outs = ({file.fs_path for file in files} for files in (stage.deps, stage.outs))
        for path, state in states({*deps, stage.path}).items():
            if self.files.setdefault(path, state) != state:
                self.is_known = False  # a cell that was checked before has read another file
        self.files |= states({*outs, self.lock})
        self.roots |= {*deps, *outs, stage.path, self.lock}
        self.objects[stage.addressing] = objects

    def save(self) -> None:
        """Keep that all cells are up to date, unless files have changed since they were checked."""
        objects = sorted({path for paths in self.objects.values() for path in paths})
        whole = self.is_known and states(self.roots) == self.files and self.pipelines == _pipelines()
        if whole and _are_protected(objects):
            roots = sorted(self.roots)
            record = {"digest": _digest(roots), "roots": roots, "objects": objects}
            # Without the record the next run asks DVC, so a failure to write it stops nothing.
            with suppress(InputError, OSError), atomic_file(RECORD) as part:
                part.write_text(json.dumps(record), encoding="utf-8")


def states(paths: Iterable[str]) -> dict[str, State]:
    """Return the state of each file, and of all files below each folder but those that Python writes by itself."""
    found: dict[str, State] = {}
    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112 (thousands of files)
            found[path] = _state(path)
            continue
        for folder, folders, files in os.walk(path):
            folders[:] = [name for name in folders if name != "__pycache__"]
            found |= {name: _state(name) for name in (f"{folder}/{file}" for file in files)}
    return found


def _state(path: str) -> State:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _pipelines() -> list[str]:
    """Return all pipeline files of DVC; a new one may make what a cell depends on."""
    found: list[str] = []
    for folder, folders, files in os.walk(Path.cwd()):
        folders[:] = [name for name in folders if name not in WITHOUT_PIPELINES and not name.startswith(".")]
        found += [f"{folder}/{name}" for name in files if name == "dvc.yaml" or name.endswith(".dvc")]
    return sorted(found)


def _digest(roots: Iterable[str]) -> str:
    state = [version("dvc"), _pipelines(), sorted(states(roots).items())]
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()


def _objects(stage: Stage) -> list[str] | None:
    """Return the objects of DVC's cache that hold the outputs of a cell; None if it lacks one."""
    found: list[str] = []
    for out in stage.outs:
        if out.use_cache:
            content = out.get_obj()
            if content is None:
                return None
            entries = [entry.value for _, _, entry in content] if out.is_dir_checksum else []
            found += map(out.cache.oid_to_path, [*entries, content.hash_info.value])
    return found


def _are_protected(objects: Iterable[str]) -> bool:
    """Return whether all objects are there as DVC put them; others it would hash again."""
    try:
        return all(os.stat(path).st_mode & 0o777 == PROTECTED for path in objects)  # noqa: PTH116
    except OSError:
        return False
