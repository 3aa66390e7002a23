"""Changes of DVC without which its cost per cell grows with the number of cells; tried with DVC 3.67.1."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.executor import lock_writer


def install() -> None:
    """Apply all of them to the DVC of this process."""
    lock_writer.install()
    _read_params_once()
    _lock_paths_once()


def _read_params_once() -> None:
    """Parse `params.yaml` once for all cells, and again only after it was written; DVC parses it for each of them."""
    from dvc.dependency import param

    load = param.load_path
    kept: dict[str, tuple[object, Any]] = {}

    def load_path(path: str, fs: Any, **options: Any) -> Any:
        info = fs.info(path)
        state = info.get("mtime"), info["size"], info.get("ino"), sorted(options)
        if path not in kept or kept[path][0] != state:
            kept[path] = state, load(path, fs, **options)
        return kept[path][1]

    param.load_path = load_path


def _lock_paths_once() -> None:
    """Lock the paths of a cell once, when DVC begins with it, and tell the cells of this process apart.

    DVC locks them again in each of the steps that it takes, about ten times a cell, and each time reads and writes the
    file of all locks. It takes two cells of one process for one, so that the first to end would unlock both.
    """
    from dvc import rwlock

    original = rwlock.rwlock
    held = threading.local()

    @contextmanager
    def lock(tmp_dir: str, fs: Any, cmd: str, *paths_and_kind: Any) -> Iterator[None]:
        if getattr(held, "paths", False):
            yield
            return

        held.paths = True
        try:
            _read, write, _hardlink = paths_and_kind
            with original(tmp_dir, fs, " ".join([cmd, *write[:1]]), *paths_and_kind):
                yield
        finally:
            held.paths = False

    rwlock.rwlock = lock
