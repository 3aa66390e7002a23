"""Changed and missing bytes in stored files."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.faults.workspace import Row, Workspace
from features.errors import InputError
from features.formats.files import MARK
from features.formats.tensors import load_tensors
from features.image_store.store import ImageStore
from features.index import read_names
from features.index_table import read_index
from features.synthetic_store import load_synthetic
from features.text.classes import load_classes
from features.text.tower_file import load_tower
from pipeline.artifacts.scores import read_scores
from pipeline.artifacts.task import load_test, load_train
from pipeline.executor.damage import cache_folder, find_damage, tracked_files

CELL = "mine/base_to_new"


def rows(space: Workspace, times: int) -> Iterator[Row]:
    """Yield rows of flipped bits and of truncated files, as readers find them, and as `shipyard verify` does."""
    made, index = space.repo / "artifacts/tiny", space.repo / "artifacts/index"
    store = made / "features/mine.zarr"
    files = sorted(_files(store))
    chunks = [file for file in files if "c" in file.relative_to(store).parts]
    yield _flipped("feature store, as opened with `compute.verify: true`", files, times, lambda: _verified(store))
    yield _flipped("feature store, its values as they are read", chunks, times, lambda: _loaded(store))
    yield _truncated("feature store, each file", sorted(_files(store)), lambda: ImageStore.open(store))
    (fitted,) = _files(made / "fitted" / CELL / "coop", "seed=1.safetensors")
    (shard,) = _files(made / "synthetic" / CELL / "ship/seed=1")
    kinds: dict[str, tuple[Path, Callable[[Path], object]]] = {
        "index": (index / "mine.parquet", read_index),
        "class names": (index / "mine.json", read_names),
        "class texts": (made / "classes/mine.h5", load_classes),
        "text tower": (made / "text_tower.safetensors", load_tower),
        "`train.h5`": (made / "tasks" / CELL / "train.h5", lambda path: load_train(path).seed(1)),
        "`test.h5`": (made / "tasks" / CELL / "test.h5", load_test),
        "synthetic features": (shard, lambda path: load_synthetic(path.parent)),
        "fitted classifier": (fitted, lambda path: load_tensors(path, torch.device("cpu"))),
        "scores": (made / "scores" / CELL / "coop.json", read_scores),
    }
    for name, (path, read) in kinds.items():
        yield _truncated(name, [path], _reading(path, read))
        yield _flipped(name, [path], times, _reading(path, read))
    yield _repaired(space, "an output in the workspace", list(space.files("artifacts")), 5 * times)
    yield _repaired(space, "an object of DVC's cache", list(space.files(".dvc/cache/files")), 5 * times)


def _reading(path: Path, read: Callable[[Path], object]) -> Callable[[], object]:
    return lambda: read(path)


def _files(folder: Path, name: str = "*") -> list[Path]:
    return [file for file in folder.rglob(name) if file.is_file() and file.name != MARK]  # which holds no values


def _verified(store: Path) -> object:
    return ImageStore.open(store, verify=True)


def _loaded(store: Path) -> object:
    opened = ImageStore.open(store)
    return [opened.load(split) for split in opened.splits]


def _flipped(name: str, files: list[Path], times: int, read: Callable[[], object]) -> Row:
    """Flip one bit at `times` positions of each file, one at a time."""
    rng, tried, missed = random.Random(0), 0, []  # noqa: S311 (positions, not secrets)
    for file in files:
        good = file.read_bytes()
        for place in rng.sample(range(len(good)), min(times, len(good))):
            _put(file, good[:place] + bytes([good[place] ^ (1 << rng.randrange(8))]) + good[place + 1 :])
            tried += 1
            if _accepts(read):
                missed.append(f"{file.name}, byte {place}, was taken for whole")
        _put(file, good)
    return Row(f"a flipped bit: {name}", tried, "all refused, with the remedy", missed[0] if missed else "")


def _repaired(space: Workspace, what: str, files: list[Path], times: int) -> Row:
    """Flip one bit of a random file, with its size and time kept; `verify --repair` must give the old bytes back."""
    rng, missed = random.Random(0), []  # noqa: S311 (positions, not secrets)
    with contextlib.chdir(space.repo):
        cache = cache_folder()
        for file in rng.choices([file for file in files if file.stat().st_size], k=times):
            good, state = file.read_bytes(), file.stat()
            place = rng.randrange(len(good))
            _put(file, good[:place] + bytes([good[place] ^ (1 << rng.randrange(8))]) + good[place + 1 :])
            os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
            damages = list(find_damage(tracked_files(cache)))
            for damage in damages:
                list(damage.repair())
            # A set: several outputs may have the same bytes, and one object of the cache.
            if {path.resolve() for damage in damages for path in damage.bad} != {file} or file.read_bytes() != good:
                missed.append(f"{file.relative_to(space.repo)}, byte {place}")
                _put(file, good)
    outcome = "all found by `shipyard verify`, and restored from the other copy"
    return Row(f"a flipped bit: {what}", times, outcome, missed[0] if missed else "")


def _truncated(name: str, files: list[Path], read: Callable[[], object]) -> Row:
    tried, missed = 0, []
    for file in files:
        good = file.read_bytes()
        for length in sorted({0, 1, len(good) // 2, len(good) - 2}):  # JSON is intact without its last line break
            _put(file, good[:length])
            tried += 1
            if _accepts(read):
                missed.append(f"{file.name}, cut to {length} bytes, was taken for whole")
        _put(file, good)
    return Row(f"cut short: {name}", tried, "all refused, with the remedy", missed[0] if missed else "")


def _put(file: Path, data: bytes) -> None:
    """Replace a file by a new one, because DVC's cache may hold a hard link of the old one."""
    file.unlink()
    file.write_bytes(data)


def _accepts(read: Callable[[], object]) -> bool:
    try:
        read()
    except InputError:
        return False
    return True
