"""Extract features from images into a store; a kill, an error or a full disk loses at most the shards in work."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from features.errors import InputError, raise_all, shown
from features.extraction.decode_worker import Problem
from features.extraction.pipeline import Advance, Extraction, compute
from features.formats.files import canonical_json, remove
from features.formats.seal import is_sealed, read_sealed_json
from features.image_store.shard_reader import is_whole
from features.image_store.store import INVALID
from features.image_store.writer import CHUNKS_IN_SHARD, Shard, chunk_rows, plan_shards, shard_files, write_store
from features.runtime.progress import Progress, quiet
from features.shards.archives import sizes_of

REVISION = 1  # of the code between a file's bytes and its features; raising it discards shards of interrupted runs
MAX_LISTED = 20  # changed files that a message lists; there may be as many as images

Engine = Callable[[Extraction, Sequence[Shard], Path, Advance], list[Problem]]  # computes shards, here or on a cluster


def extract(job: Extraction, out: Path, scratch: Path, engine: Engine = compute) -> None:
    """Write the store `out`.

    Finished shards are kept in a folder of `scratch` until all are complete, and in `job.bucket` if there is one. A
    rerun continues from them, on another machine from those in the bucket.

    Raises:
        InputError: files differ from the index, images cannot be decoded (all are listed, after the others were done),
            features are not finite, the disk is full, another process extracts the same features, or the bucket cannot
            be used.
    """
    provenance = job.provenance()

    # The key holds everything that decides a feature, so shards of other settings or weights are never reused.
    key = hashlib.sha256(canonical_json([REVISION, provenance]).encode()).hexdigest()[:16]
    shard_folder = scratch / f"{out.stem}-{key}"
    shards = plan_shards(job.index, job.views.crops, job.patches)
    bucket = job.bucket.subfolder(shard_folder.name) if job.bucket else None
    job = replace(job, bucket=bucket)

    with _exclusive(scratch / f"{shard_folder.name}.lock"):
        if bucket:
            bucket.check_access()
            bucket.fetch(shard_folder, [shard.key for shard in shards if not (shard_folder / shard.key).exists()])

        todo = [shard for shard in shards if not _is_finished(job, shard, shard_folder / shard.key)]
        _check_unchanged(job, todo)
        total = len(job.index.paths)
        if not quiet():
            for line in costs(job):
                print(f"extract {out.stem}: {line}", file=sys.stderr, flush=True)

        done = total - sum(len(shard.rows) for shard in todo)
        with Progress(f"extract {out.stem}", total, done=done) as progress:
            if todo:
                problems = engine(job, todo, shard_folder, progress.advance)
                _raise_problems([problem for problem in problems if not job.may_skip(problem)], job)
            finished = [(shard, shard_folder / shard.key) for shard in shards]
            invalid = _skipped_images(shard_folder, shards)
            write_store(out, job.index, finished, job.encoder.embed_dim, provenance, invalid=invalid)

        # Only after the store is in place: a kill before this line costs no shard.
        _report_skipped(invalid, out)
        remove(shard_folder)
        if bucket:
            bucket.clear()


def costs(job: Extraction) -> Iterator[str]:
    """Yield lines on the disk space of what is stored only on request, printed before it is computed."""
    d = job.encoder.embed_dim
    if job.views.families:
        images, added = len(job.index.rows("train")), job.views.count * len(job.views.families)
        size = 2 * images * added * d  # float16
        yield (
            f"extract.view_families ({', '.join(sorted(job.views.families))}) adds {added} views of each of {images:,} "
            f"training images, {size / 1e6:,.1f} MB, and the encoder reads {job.views.crops} crops of each instead of "
            f"{1 + job.views.count}. Set it to {{}} to leave them out"
        )
    if job.patches:
        images = len(job.index.paths)
        size = 2 * images * job.patches * d
        yield (
            f"patch tokens of {images:,} images take {size / 1e6:,.1f} MB ({job.patches} of {d} float16 each). Every "
            "task copies those of its images into its train.h5 and test.h5. Set extract.patch_tokens: false to leave "
            "them out"
        )


def _is_finished(job: Extraction, shard: Shard, file: Path) -> bool:
    """Return whether a shard needs no work.

    One with skipped images is not finished for a run that may not skip, and one whose bytes have changed never is.
    """
    skipped, patches, features = shard_files(file)
    if not features.is_file() or (job.on_bad_image == "fail" and skipped.exists()):
        return False

    widths = {features: shard.views} | ({patches: job.patches} if job.patches else {})
    size = chunk_rows(shard.views, job.patches)
    shapes = {path: (len(shard.rows), width, job.encoder.embed_dim) for path, width in widths.items()}
    return all(is_whole(path, shape, size, CHUNKS_IN_SHARD) for path, shape in shapes.items()) and (
        not skipped.exists() or is_sealed(skipped)
    )


def _skipped_images(shard_folder: Path, shards: Sequence[Shard]) -> dict[str, str]:
    """Return path -> reason of every image that this run or an earlier one left out, in the order of the shards."""
    invalid: dict[str, str] = {}
    for file in (shard_files(shard_folder / shard.key)[0] for shard in shards):
        if file.exists():
            invalid |= read_sealed_json(file, "run again")
    return invalid


def _report_skipped(invalid: Mapping[str, str], out: Path) -> None:
    if invalid:
        lines = [f"  - {shown(path)}: {reason}" for path, reason in invalid.items()]
        print(
            f"{len(invalid):,} images are marked invalid because extract.on_bad_image is skip ({out / INVALID}):",
            *lines,
            sep="\n",
            file=sys.stderr,
        )


@contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    """Refuse a second extraction of the same features at the same time.

    The operating system frees the lock when the process ends, however it ends. The empty lock file stays: removing it
    would let two processes hold locks on two files of one name.
    """
    file_lock = FileLock(lock, timeout=0)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file_lock.acquire()
    except Timeout:
        raise InputError(f"another process is extracting the same features ({lock}): wait until it ends") from None
    except OSError as error:
        raise InputError(f"cannot write {lock}: {error.strerror or error}") from error

    try:
        yield
    finally:
        file_lock.release()


def _check_unchanged(job: Extraction, todo: Sequence[Shard]) -> None:
    """Check before any work that all files exist with the sizes of the index; their sha256 is checked when read."""
    problems = []
    if job.index.places is not None:
        expected = dict(job.index.places.archives)
        sizes = sizes_of(job.folder, [*expected])
        changed = [name for name in expected if sizes[name] != expected[name]]
        _raise_changed([f"{shown(name)}: {_size(sizes[name])}, not {expected[name]:,} bytes" for name in changed], job)
        return
    for row in (row for shard in todo for row in shard.rows):
        image = job.index.image(row)
        try:
            size = (Path(job.folder) / image.path).stat().st_size
        except OSError as error:
            problems.append(f"{shown(image.path)}: {error.strerror or error}")
            continue
        if size != image.size:
            problems.append(f"{shown(image.path)}: {size:,} bytes, {image.size:,} when it was indexed")
    _raise_changed(problems, job)


def _size(size: int | None) -> str:
    return "there is no such file" if size is None else f"{size:,} bytes"


def _raise_changed(problems: Sequence[str], job: Extraction) -> None:
    what = "images" if job.index.places is None else "images or archives"
    more = [f"... and {len(problems) - MAX_LISTED:,} more"] if len(problems) > MAX_LISTED else []
    raise_all(
        [*problems[:MAX_LISTED], *more],
        f"{len(problems):,} {what} in {job.folder} differ from the index: restore them, or rerun the index "
        "(dvc repro --force index; shards of unchanged images are kept)",
    )


def _raise_problems(problems: Sequence[Problem], job: Extraction) -> None:
    _raise_changed([f"{shown(path)}: {reason}" for kind, path, reason in problems if kind == "changed"], job)
    raise_all(
        [f"{shown(path)}: {reason}" for _, path, reason in problems],
        f"images in {job.folder} cannot be read: replace them with good copies, or remove them from the data set, and "
        "run again from the index. Or set extract.on_bad_image to skip: they are then left out, and every table shows "
        "how many. Finished shards of the other images are kept",
    )
