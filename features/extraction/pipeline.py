"""Batches of images through decoding, the encoder and writing, all at once, shard by shard.

Batches pass through three pools: processes that decode (`Decoders`), lanes that run the encoder, a thread that writes
shards. No batch holds images of two shards, so what it holds, and with it every rounding, is the same after a resume.
Memory does not grow with the number of images.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from features.encoding.augment import Views
from features.encoding.encoder import Encoder
from features.errors import InputError, raise_all
from features.extraction.bucket import Bucket
from features.extraction.decode_worker import ImageRef, Problem, DecodeSettings
from features.extraction.decoding import Decoded, Decoders
from features.extraction.patch_tokens import encode_with_patches
from features.image_store.provenance import FORMAT
from features.image_store.writer import Shard, chunk_rows, write_shard
from features.index import Index
from features.runtime.devices import Precision, cores

BadImages = Literal["fail", "skip"]
Advance = Callable[[int], None]  # is told how many more images are done

LANES = 8  # most forward passes at a time on a CPU, for each takes the memory of a batch
# Most crops in one of them: LiteCLIP takes 21 ms a crop with 4 and with 64, and 0.1 GB more memory each 4.
CPU_BATCH = 16
GPU_LANES = 2  # one sends its crops while the other's are computed


@dataclass(frozen=True)
class Extraction:
    """What is extracted, and how.

    Attributes:
        index, folder: the images, and what their paths are relative to.
        encoder: on the device that computes.
        views: random views of each training image; the other splits have the centre crop alone.
        precision: of the forward pass.
        batch: crops in one forward pass, on a CPU at most `CPU_BATCH`.
        workers: processes that decode; 0 decodes in a thread of this one.
        patches: P, patch tokens that are kept of each centre crop; 0: none.
        on_bad_image: `fail` finishes the other shards and reports all bad images; `skip` marks them invalid.
        bucket: where finished shards are put as well, for machines that share no file system.
    """

    index: Index
    folder: Path
    encoder: Encoder
    views: Views
    precision: Precision
    batch: int
    workers: int
    patches: int = 0
    on_bad_image: BadImages = "fail"
    bucket: Bucket | None = None

    def facts(self) -> dict[str, Any]:
        """What decides the features of an image, for the store's `meta.json`."""
        return {
            "format": FORMAT,
            "encoder": self.encoder.name,
            "weights_sha256": self.encoder.weights_sha256,
            "preprocess": asdict(self.encoder.preprocess),
            "precision": self.precision,
            "views": self.views.count,
            "view_scale": list(self.views.scale),
            "view_seed": self.views.seed,
            **({"patches": self.patches} if self.patches else {}),
        }

    def images_in_batch(self, views: int) -> int:
        """Images in one forward pass, with all their crops."""
        on_cpu = self.encoder.device.type == "cpu"
        return max(1, (min(self.batch, CPU_BATCH) if on_cpu else self.batch) // views)

    def may_skip(self, problem: Problem) -> bool:
        """Whether an image may be left out; one that has changed since it was indexed never may."""
        return self.on_bad_image == "skip" and problem.kind == "unreadable"

    def image(self, row: int) -> ImageRef:
        """An image of the index."""
        return ImageRef(self.index.paths[row], int(self.index.sizes[row]), self.index.sha256[row])


def compute(
    job: Extraction, todo: Sequence[Shard], kept: Path, advance: Advance, *, cpus: int | None = None
) -> list[Problem]:
    """Compute the missing shards and write each to a file of `kept` that bears its key; say which images failed.

    `cpus` are the cores to compute on, by default all that this process may use.
    """
    on_cpu, cpus = job.encoder.device.type == "cpu", cpus or cores()
    # On a CPU several passes of one thread each do more than one pass of several threads, which wait for one another.
    lanes = min(cpus, LANES) if on_cpu else GPU_LANES
    threads = max(1, cpus // lanes)

    def start() -> None:
        torch.set_num_threads(threads)
        if not on_cpu:
            torch.cuda.set_stream(torch.cuda.Stream(job.encoder.device))  # type: ignore[no-untyped-call]

    before = torch.get_num_threads()
    ahead = 2 * max(1, job.workers)
    recipe = DecodeSettings(job.folder, job.encoder.preprocess, job.views)
    largest = max(job.images_in_batch(shard.views) * shard.views for shard in todo)
    try:
        with (
            Decoders(recipe, workers=job.workers, slots=ahead + lanes + 2, crops=largest) as decoders,
            _pool(1, "write") as writer,
            _pool(lanes, "encode", start) as encoders,
        ):
            pipeline = _Pipeline(job, kept, advance, decoders, encoders, writer, ahead, lanes + 1)
            return pipeline.run(todo)
    except torch.OutOfMemoryError as error:
        raise InputError(f"{error}\nFinished shards are kept: run again with a smaller compute.batch") from error
    finally:
        torch.set_num_threads(before)


@contextmanager
def _pool(size: int, name: str, start: Callable[[], None] | None = None) -> Iterator[ThreadPoolExecutor]:
    """Threads that take nothing new once the context is left, by whatever way."""
    pool = ThreadPoolExecutor(size, name, initializer=start)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass
class _OpenShard:
    """A shard in work: its batches' features (n, K, D), and patch tokens (n, P, D) if any, and its images that failed.

    `invalid` are left out; `failed` says that there are others, for which nothing is written.
    """

    shard: Shard
    batches: list[Future[tuple[Tensor, ...]]] = field(default_factory=list)
    invalid: list[Problem] = field(default_factory=list)
    failed: bool = False


@dataclass
class _Pipeline:
    """Batches on their way, oldest first, so many at each station that no one waits and memory stays bounded."""

    job: Extraction
    kept: Path
    advance: Advance
    decoders: Decoders
    encoders: ThreadPoolExecutor
    writer: ThreadPoolExecutor
    most_decoding: int
    most_encoding: int
    problems: list[Problem] = field(default_factory=list)
    decoding: deque[tuple[_OpenShard, bool, Future[Decoded]]] = field(default_factory=deque)
    encoding: deque[Future[tuple[Tensor, ...]]] = field(default_factory=deque)
    writing: deque[Future[None]] = field(default_factory=deque)

    def run(self, shards: Sequence[Shard]) -> list[Problem]:
        """Bring all shards to disk but those with images that fail; these images are what is returned."""
        for shard in shards:
            work = _OpenShard(shard)
            for rows in _cut(shard.rows, self.job.images_in_batch(shard.views)):
                images = [self.job.image(row) for row in rows]
                last = rows.stop == shard.rows.stop
                self.decoding.append((work, last, self.decoders.submit(images, shard.views)))
                if len(self.decoding) >= self.most_decoding:
                    self._hand_to_encoder()
        while self.decoding:
            self._hand_to_encoder()
        for encoded in self.encoding:
            encoded.result()
        for written in self.writing:
            written.result()
        return self.problems

    def _hand_to_encoder(self) -> None:
        work, last, future = self.decoding.popleft()
        decoded = future.result()
        invalid = [problem for problem in decoded.problems if self.job.may_skip(problem)]
        work.invalid += invalid
        self.problems += decoded.problems
        work.failed |= len(decoded.problems) > len(invalid)
        self.advance(len(decoded.crops))
        if work.failed:  # the rest of its images are still read, so that every bad one is named
            self.decoders.release(decoded)
            return
        work.batches.append(self.encoders.submit(self._encode, decoded))
        self.encoding.append(work.batches[-1])
        if len(self.encoding) > self.most_encoding:
            self.encoding.popleft().result()
        if last:
            self.writing.append(self.writer.submit(self._write, work))
            if len(self.writing) > 1:
                self.writing.popleft().result()

    def _encode(self, decoded: Decoded) -> tuple[Tensor, ...]:
        try:
            shape, job = decoded.crops.shape[:2], self.job
            crops = torch.from_numpy(decoded.crops).flatten(0, 1)
            if not job.patches:
                return (_stored(job.encoder.encode_crops(crops, job.precision).reshape(*shape, -1)),)
            features, patches = encode_with_patches(job.encoder, crops, job.precision)
            centre = patches.reshape(*shape, *patches.shape[1:])[:, 0]
            return _stored(features.reshape(*shape, -1)), _stored(centre)
        finally:
            self.decoders.release(decoded)

    def _write(self, work: _OpenShard) -> None:
        arrays = [torch.cat(parts).numpy() for parts in zip(*(b.result() for b in work.batches), strict=True)]
        reasons = {problem.path: problem.reason for problem in work.invalid}
        for array in arrays:
            array[[self.job.index.paths[row] in reasons for row in work.shard.rows]] = 0
        bad = np.flatnonzero(~np.logical_and.reduce([np.isfinite(array).all(axis=(1, 2)) for array in arrays]))
        raise_all(
            [self.job.index.paths[work.shard.rows[int(row)]] for row in bad],
            f"features are not finite as float16, computed in {self.job.precision}; set extract.precision to float32 "
            "or, if it is, look for weights that are damaged",
        )
        features = self.kept / work.shard.key
        write_shard(features, arrays, chunk_rows(work.shard.views, self.job.patches), reasons)
        if self.job.bucket:
            self.job.bucket.put(features)


def _stored(values: Tensor) -> Tensor:
    return values.to(torch.float16).cpu()  # waits for its lane's stream alone, so what is read is complete


def _cut(rows: range, size: int) -> Iterator[range]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
