"""Images -> a store of features; a kill, an error or a full disk costs at most the shards in work."""

from __future__ import annotations

import fcntl
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from features.errors import InputError, raise_all, shown
from features.extraction.decode_worker import Problem
from features.extraction.pipeline import Advance, Extraction, compute
from features.formats.files import canonical_json, remove
from features.image_store.store import INVALID
from features.image_store.writer import Shard, plan_shards, shard_files, write_store
from features.runtime.progress import Progress, quiet

REVISION = 1  # of all between a file's bytes and its features; another one makes shards of interrupted runs void
SHOWN = 20  # changed files that a message names; there may be as many as images

Engine = Callable[[Extraction, Sequence[Shard], Path, Advance], list[Problem]]  # where shards are computed


def extract(job: Extraction, out: Path, scratch: Path, engine: Engine = compute) -> None:
    """Write the store `out`; finished shards wait below `scratch` until all are there, and a rerun goes on from them.

    They wait in `job.bucket` as well, if there is one, and a rerun on another machine goes on from those.

    Raises:
        InputError: files that are not those of the index, images that cannot be decoded (all of them, once the others
            are done), features that are not finite, a full disk, another extraction of the same at work, or a bucket
            that cannot be used.
    """
    facts = job.facts()
    key = hashlib.sha256(canonical_json([REVISION, facts]).encode()).hexdigest()[:16]
    kept = scratch / f"{out.stem}-{key}"
    shards = plan_shards(job.index, 1 + job.views.count, job.patches)
    bucket = job.bucket.of(kept.name) if job.bucket else None
    job = replace(job, bucket=bucket)
    with _alone(scratch / f"{kept.name}.lock"):
        if bucket:
            bucket.try_out()
            bucket.fetch(kept, [shard.key for shard in shards if not (kept / shard.key).exists()])
        todo = [shard for shard in shards if not _finished(job, kept / shard.key)]
        _refuse_changed(job, todo)
        total = len(job.index.paths)
        if job.patches and not quiet():
            print(f"extract {out.stem}: {cost(job)}", file=sys.stderr, flush=True)
        done = total - sum(len(shard.rows) for shard in todo)
        with Progress(f"extract {out.stem}", total, done=done) as progress:
            if todo:
                problems = engine(job, todo, kept, progress.advance)
                _refuse_problems([problem for problem in problems if not job.may_skip(problem)], job.folder)
            finished = [(shard, kept / shard.key) for shard in shards]
            invalid = _invalid(kept, shards)
            write_store(out, job.index, finished, job.encoder.embed_dim, facts, invalid=invalid)
        _tell(invalid, out)
        remove(kept)
        if bucket:
            bucket.clear()


def cost(job: Extraction) -> str:
    """What patch tokens take on disk, said before they are made; every task copies those of its images."""
    images, d = len(job.index.paths), job.encoder.embed_dim
    taken = 2 * images * job.patches * d
    return (
        f"patch tokens of {images:,} images take {taken / 1e6:,.1f} MB ({job.patches} of {d} float16 each), those of a "
        "task's images as much again in its train.h5 and test.h5; extract.patch_tokens: false leaves them out"
    )


def _finished(job: Extraction, file: Path) -> bool:
    """Whether a shard needs no work; one with invalid images is no use to a run that refuses them."""
    return file.is_file() and (job.on_bad_image == "skip" or not shard_files(file)[0].exists())


def _invalid(kept: Path, shards: Sequence[Shard]) -> dict[str, str]:
    """Path -> reason of every image that was left out, also by earlier runs, in the index's order of shards."""
    invalid: dict[str, str] = {}
    for file in (shard_files(kept / shard.key)[0] for shard in shards):
        if file.exists():
            invalid |= json.loads(file.read_text(encoding="utf-8"))
    return invalid


def _tell(invalid: Mapping[str, str], out: Path) -> None:
    if invalid:
        lines = [f"  - {shown(path)}: {reason}" for path, reason in invalid.items()]
        print(
            f"{len(invalid):,} images are marked invalid, for extract.on_bad_image is skip ({out / INVALID}):",
            *lines,
            sep="\n",
            file=sys.stderr,
        )


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Refuse a second extraction of the same at the same time; the system frees the lock with the process."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except OSError as error:
        raise InputError(f"cannot write {lock}: {error.strerror or error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"another process extracts the same features now ({lock}): wait for it") from None
        yield
        lock.unlink()


def _refuse_changed(job: Extraction, todo: Sequence[Shard]) -> None:
    """See before any work that the files are there in the length that the index knows."""
    wrong = []
    for row in (row for shard in todo for row in shard.rows):
        image = job.image(row)
        try:
            size = (job.folder / image.path).stat().st_size
        except OSError as error:
            wrong.append(f"{shown(image.path)}: {error.strerror or error}")
            continue
        if size != image.size:
            wrong.append(f"{shown(image.path)}: {size:,} bytes, {image.size:,} when it was indexed")
    _raise_changed(wrong, job.folder)


def _raise_changed(wrong: Sequence[str], folder: Path) -> None:
    more = [f"... and {len(wrong) - SHOWN:,} more"] if len(wrong) > SHOWN else []
    raise_all(
        [*wrong[:SHOWN], *more],
        f"{len(wrong):,} images in {folder} are not those of the index: bring them back, or rerun the index "
        "(dvc repro --force index; shards of unchanged images are kept)",
    )


def _refuse_problems(problems: Sequence[Problem], folder: Path) -> None:
    _raise_changed([f"{shown(path)}: {reason}" for kind, path, reason in problems if kind == "changed"], folder)
    raise_all(
        [f"{shown(path)}: {reason}" for _, path, reason in problems],
        f"images in {folder} cannot be read: put good copies in their place, or remove them from the data set, then "
        "run again from the index; or set extract.on_bad_image to skip, which leaves them out and says so in every "
        "table. What is finished of the others is kept",
    )
