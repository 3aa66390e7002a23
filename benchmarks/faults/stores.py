"""Changed and missing bytes in stored files."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.faults.workspace import Row, Workspace
from features.errors import InputError
from features.formats.tensors import load_tensors
from features.image_store.store import ImageStore
from features.index import read_index, read_names
from features.synthetic_store import load_synthetic
from features.text.classes import load_classes
from features.text.text_tower import load_tower
from pipeline.artifacts.scores import read_scores
from pipeline.artifacts.task import load_test, load_train

CELL = "mine/base_to_new"


def rows(space: Workspace, times: int) -> Iterator[Row]:
    """Yield rows of flipped bits in a feature store, and of every kind of file truncated."""
    made, index = space.repo / "artifacts/tiny", space.repo / "artifacts/index"
    store = made / "features/mine.zarr"
    yield _flipped("feature store, as opened with `compute.verify: true`", store, times)
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
    yield _seen_by_dvc(space, [path for path, _ in kinds.values()])


def _reading(path: Path, read: Callable[[Path], object]) -> Callable[[], object]:
    return lambda: read(path)


def _files(folder: Path, name: str = "*") -> list[Path]:
    return [file for file in folder.rglob(name) if file.is_file()]


def _flipped(name: str, store: Path, times: int) -> Row:
    """Flip one bit at `times` positions of each file, one at a time."""
    rng, tried, missed = random.Random(0), 0, []  # noqa: S311 (positions, not secrets)
    for file in sorted(_files(store)):
        good = file.read_bytes()
        for place in rng.sample(range(len(good)), min(times, len(good))):
            _put(file, good[:place] + bytes([good[place] ^ (1 << rng.randrange(8))]) + good[place + 1 :])
            tried += 1
            if _accepts(lambda: ImageStore.open(store, verify=True)):
                missed.append(f"{file.relative_to(store)}, byte {place}, was taken for whole")
        _put(file, good)
    return Row(f"a flipped bit: {name}", tried, "all found", missed[0] if missed else "")


def _seen_by_dvc(space: Workspace, files: list[Path]) -> Row:
    """Flip one bit in the middle of each file."""
    missed = []
    for file in files:
        good = file.read_bytes()
        place = len(good) // 2
        _put(file, good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        if "modified:" not in space.dvc("status"):
            missed.append(f"{file.name} was taken for whole")
        _put(file, good)
    return Row("a flipped bit: each of these files, at `dvc status`", len(files), "all found", "; ".join(missed))


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
