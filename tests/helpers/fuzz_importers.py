"""Mutate files and open them: each must give a result or an `InputError`, in limited time and memory.

    python tests/helpers/fuzz_importers.py --minutes 10 [--seed 0] [--only h5]

Every attempt is a process of its own, so that a crash of a library is counted like any other failure. A failure is
printed with the number that reproduces it.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import lab_files
import made_up_scores
import pyarrow as pa
import pyarrow.parquet as pq
import small_files
import small_image_store
from pictures import make_images

from features.errors import InputError
from features.exchange.exporter import export
from features.exchange.importer import read_features
from features.exchange.rows import ImportRequest, read_rows
from features.formats import sandbox
from features.formats.files import write_json
from features.formats.seal import write_sealed_json
from features.formats.tensors import read_tensors
from features.image_store.store import ImageStore
from features.index import read_names
from features.index_table import Index, read_index, save_index
from features.splits.label_table import read_label_table
from features.splits.split_zhou import read_split
from features.synthetic_store import load_synthetic
from features.text.classes import load_classes
from features.text.tower_file import load_tower, save_tower
from pipeline.artifacts.scores import EncoderId, Scores, read_scores, write_scores
from pipeline.artifacts.task import load_test, load_train
from pipeline.config import params

SECONDS, MEGABYTES = 60, 512  # limits of an attempt: processor time and additional memory
sandbox.SECONDS = 10  # of these, for the subprocess that parses an HDF5 or MATLAB file
NUMBERS = (0, 1, 2**15, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, 2**64 - 1)
Make, Open = Callable[[Path], object], Callable[[Path], object]


def small_index(folder: Path) -> Index:
    return make_images(folder / "images", {"train": 7, "val": 2, "test": 5})


def store(folder: Path) -> None:
    small_image_store.write(folder / "a.zarr", small_index(folder))
    shutil.rmtree(folder / "images")


def open_store(folder: Path) -> None:
    image_store = ImageStore.open(folder / "a.zarr")
    for split in image_store.splits:
        image_store.load(split)
    image_store.verify()


def exported(suffix: str) -> Make:
    def make(folder: Path) -> None:
        store(folder)
        export(ImageStore.open(folder / "a.zarr"), folder / f"out.{suffix}", table=None, names=None)
        shutil.rmtree(folder / "a.zarr")
        (folder / "names.txt").write_text("a\nb\nc\n", encoding="utf-8")

    return make


def open_export(suffix: str) -> Open:
    return lambda folder: read_features(ImportRequest(folder / f"out.{suffix}", "lab", classes=folder / "names.txt"))


def lab(make: Callable[[Path], Path]) -> tuple[Make, Open]:
    def reopen(folder: Path) -> object:
        with tempfile.TemporaryDirectory() as other:  # only for the options
            request = lab_files.request_for(make, Path(other))
            source = folder / request.source.name
            rows = folder / request.rows.name if request.rows else None
            return read_features(ImportRequest(**{**vars(request), "source": source, "rows": rows}))

    return lambda folder: lab_files.request_for(make, folder), reopen


def open_train(folder: Path) -> None:
    task = load_train(folder / "x")
    for seed in (1, 2):
        task.seed(seed)


def write_made_up_scores(folder: Path) -> None:
    (folder / "d/t").mkdir(parents=True)
    seeds = (made_up_scores.seed_scores(1, (80.0, 80.0, 80.0)),)
    known = {"dataset": "d", "task": "t", "run": "coop", "method": "coop", "generator": None, "protocol": "p"}
    encoder = EncoderId(name="tiny", weights_sha256="0")
    scores = Scores(**known, trained_on="d", shots=4, encoder=encoder, harmonic=("base", "new"), seeds=seeds)
    write_scores(folder / "d/t/coop.json", scores)


def open_scores(folder: Path) -> object:
    return read_scores(folder / "d/t/coop.json")


SPLIT = {"train": [["a/1.jpg", 0, "cat"]], "val": [["b/2.jpg", 1, "dog"]], "test": [["a/3.jpg", 0, "cat"]]}
NAMES = {
    "classes": ["cat", "dog"],
    "templates": ["a {}."],
    "origin": {"title": "t", "licence": "l", "home": "", "citation": "", "counts": None},
    "missing": 0,
    "descriptions": {},
}
SHIPPED = params.read(Path(__file__).resolve().parents[2] / "params.yaml")

# Files of this project, read without a sandbox: DVC checks their bytes. libhdf5 may hang on mutated ones.
OURS = ("train.h5", "test.h5", "classes.h5")

TARGETS: dict[str, tuple[Make, Open]] = {
    "store": (store, open_store),
    **{f"export {suffix}": (exported(suffix), open_export(suffix)) for suffix in ("h5", "npz", "parquet")},
    **{make.__name__: lab(make) for make in lab_files.MAKERS},
    "train.h5": (lambda folder: small_files.write_train(folder / "x"), open_train),
    "test.h5": (lambda folder: small_files.write_test(folder / "x"), lambda folder: load_test(folder / "x")),
    "classes.h5": (lambda folder: small_files.write_classes(folder / "x"), lambda folder: load_classes(folder / "x")),
    "synthetic": (small_files.write_synthetic, lambda folder: load_synthetic(folder / "seed=3")),
    "tensors": (lambda folder: small_files.write_tensors(folder / "x"), lambda folder: read_tensors(folder / "x")),
    "text tower": (lambda folder: save_tower(small_files.TOWER, folder / "x"), lambda folder: load_tower(folder / "x")),
    "index": (lambda folder: save_index(small_index(folder), folder / "x"), lambda folder: read_index(folder / "x")),
    "names": (lambda folder: write_sealed_json(folder / "x.json", NAMES), lambda folder: read_names(folder / "x.json")),
    "split": (lambda folder: write_json(folder / "x.json", SPLIT), lambda folder: read_split(folder / "x.json")),
    "scores": (write_made_up_scores, open_scores),
    "rows": (
        lambda folder: (folder / "x.csv").write_text("labels,splits,ids\ncat,train,a\ndog,test,b\n", encoding="utf-8"),
        lambda folder: read_rows(folder / "x.csv"),
    ),
    "table": (
        lambda folder: (folder / "x.csv").write_text("path,label\na.jpg,cat\nb.jpg,dog\n", encoding="utf-8"),
        lambda folder: read_label_table(folder / "x.csv"),
    ),
    "table.parquet": (
        lambda folder: pq.write_table(
            pa.table({"path": ["a.jpg", "b.jpg"], "label": ["cat", "dog"]}), folder / "x.parquet"
        ),
        lambda folder: read_label_table(folder / "x.parquet"),
    ),
    "params": (
        lambda folder: (folder / "x.yaml").write_text(SHIPPED, encoding="utf-8"),
        lambda folder: params.load(folder / "x.yaml"),
    ),
}


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return the bytes with a few of them changed, removed, repeated or cut off."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        place, length = rng.randrange(len(out) + 1), rng.choice((1, 2, 4, 8, 64))
        match rng.randrange(6):
            case 0:
                out[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                value = rng.choice(NUMBERS)
                size = rng.choice((1, 2, 4, 8))
                out[place : place + size] = (value % 2 ** (8 * size)).to_bytes(size, rng.choice(("little", "big")))
            case 2:
                del out[place : place + length]
            case 3:
                out[place:place] = out[rng.randrange(len(out) + 1) :][:length]
            case 4:
                out[place : place + length] = bytes(length)
            case 5:
                digits = [i for i, byte in enumerate(out) if chr(byte).isdigit()] or [0]
                out[(at := rng.choice(digits)) : at + 1] = str(rng.choice(NUMBERS)).encode()
    return bytes(out[: rng.randrange(len(out) + 1)] if rng.random() < 0.05 else out)


def attempt(action: Callable[[], object], message: Path) -> str:
    """Run an action in a process of its own; return `read`, `refused`, or the kind of failure."""
    child = os.fork()
    if child == 0:
        status = 3
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
            signal.alarm(20 * SECONDS)  # in case it waits forever without using the processor
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            try:
                action()
                status = 0
            except InputError as error:
                message.write_text(str(error), encoding="utf-8", errors="replace")
                status = 1
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            if grown > 1024 * MEGABYTES:
                message.write_text(f"{grown // 1024} MB", encoding="utf-8")
                status = 4
        except BaseException:  # noqa: BLE001 (reported by the parent)
            message.write_text(traceback.format_exc(), encoding="utf-8")
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        kind = os.WTERMSIG(status)
        return "hang" if kind in (signal.SIGXCPU, signal.SIGALRM) else f"signal {kind}"
    return {0: "read", 1: "refused", 3: "exception", 4: "memory"}.get(os.WEXITSTATUS(status), "exit")


def fuzz(seconds: float, seed: int, only: str = "") -> tuple[dict[str, Counter[str]], list[str]]:
    """Mutate and open each target in turn until the time is over.

    `only` selects the targets whose name contains it; by default all except `OURS`.

    Returns:
        The number of results of each kind per target, and a text per failure.
    """
    counts: dict[str, Counter[str]] = {
        name: Counter() for name in TARGETS if (only in name if only else name not in OURS)
    }
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for name in counts:  # in forks, too: libraries that start threads must not have done so here
            (root / name).mkdir()
            for action in TARGETS[name]:
                result = attempt(partial(action, root / name), root / "message")
                message = (root / "message").read_text(encoding="utf-8") if (root / "message").exists() else ""
                assert result == "read", f"the unchanged {name} gives {result}: {message}"
        end, number = time.monotonic() + seconds, seed * 1_000_000
        while time.monotonic() < end:
            for name, count in counts.items():
                number += 1
                rng = random.Random(number)  # noqa: S311 (no secret)
                work = root / "work"
                shutil.copytree(root / name, work)
                file = rng.choice(sorted(path for path in work.rglob("*") if path.is_file()))
                file.write_bytes(mutate(file.read_bytes(), rng))
                result = attempt(partial(TARGETS[name][1], work), root / "message")
                count[result] += 1
                if result not in ("read", "refused"):
                    message = (
                        (root / "message").read_text(encoding="utf-8") if result in ("exception", "memory") else ""
                    )
                    failures.append(f"{name}, {file.relative_to(work)}, number {number}: {result}\n{message}")
                shutil.rmtree(work)
    return counts, failures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", default="", help=f"targets whose name contains this; default: all except {', '.join(OURS)}"
    )
    args = parser.parse_args()
    counts, failures = fuzz(60 * args.minutes, args.seed, args.only)
    print("\n".join(failures))
    for name, count in counts.items():
        print(f"{name:<16} {sum(count.values()):>7,} attempts: {dict(count)}")
    print(f"{sum(sum(count.values()) for count in counts.values()):,} attempts, {len(failures)} failures")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
