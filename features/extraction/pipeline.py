"""Move batches of images through decoding, the encoder and writing, all at the same time, shard by shard.

Batches pass through three pools: processes that decode (`Decoders`), threads that run the encoder, and one thread that
writes shards. No batch holds images of two shards. A batch therefore has the same images, and the same rounding, after
a resume. The memory does not grow with the number of images.
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
from features.extraction.decode_worker import DecodeSettings, Problem
from features.extraction.decoding import Decoded, Decoders
from features.extraction.patch_tokens import encode_with_patches
from features.image_store.provenance import FORMAT
from features.image_store.writer import Shard, chunk_rows, write_shard
from features.index_table import Index
from features.runtime.cores import cores
from features.runtime.devices import Precision
from features.shards.archives import Base

BadImages = Literal["fail", "skip"]
Advance = Callable[[int], None]  # called with the number of images that were finished since the last call

CPU_STREAMS = 8  # most forward passes at a time on a CPU; each takes the memory of a batch
# Most crops of a forward pass on a CPU: LiteCLIP takes 21 ms a crop with 4 and with 64, and 0.1 GB more for every 4.
CPU_BATCH = 16
GPU_STREAMS = 2  # one copies its crops to the GPU while the other computes


@dataclass(frozen=True)
class Extraction:
    """Inputs and settings of an extraction.

    Attributes:
        index: the images.
        folder: the folder that their paths are relative to, or the address of the archives that hold them.
        encoder: the encoder, on the device that computes.
        views: random views of each training image; the other splits have the centre crop alone.
        precision: of the forward pass.
        batch: most crops in one forward pass; on a CPU at most `CPU_BATCH`.
        workers: processes that decode; 0 decodes in a thread of this process.
        patches: P, the patch tokens that are kept of each centre crop; 0 keeps none.
        on_bad_image: `fail` finishes the other shards and reports all bad images; `skip` marks them invalid.
        bucket: where finished shards are also put, for machines that share no file system.
    """

    index: Index
    folder: Base
    encoder: Encoder
    views: Views
    precision: Precision
    batch: int
    workers: int
    patches: int = 0
    on_bad_image: BadImages = "fail"
    bucket: Bucket | None = None

    def provenance(self) -> dict[str, Any]:
        """Return all that decides the features of an image, for the store's `meta.json`."""
        return {
            "format": FORMAT,
            "encoder": self.encoder.name,
            "weights_sha256": self.encoder.weights_sha256,
            "preprocess": asdict(self.encoder.preprocess),
            "precision": self.precision,
            "views": self.views.count,
            "view_scale": list(self.views.scale),
            "view_seed": self.views.seed,
            # Left out where there is one family: such a store has the bytes that it always had.
            **({"view_families": {n: list(s) for n, s in self.views.families.items()}} if self.views.families else {}),
            **({"patches": self.patches} if self.patches else {}),
            **self.index.reading.provenance(),
        }

    def images_in_batch(self, views: int) -> int:
        """Return how many images with `views` crops each go into one forward pass."""
        on_cpu = self.encoder.device.type == "cpu"
        crops = min(self.batch, CPU_BATCH) if on_cpu else self.batch
        return max(1, crops // views)

    def may_skip(self, problem: Problem) -> bool:
        """Return whether an image may be left out; one that changed since it was indexed never may."""
        return self.on_bad_image == "skip" and problem.kind == "unreadable"


def compute(
    job: Extraction, todo: Sequence[Shard], shard_folder: Path, advance: Advance, *, cpus: int | None = None
) -> list[Problem]:
    """Compute shards, write each to the file of `shard_folder` named by its key, and return the images that failed.

    `cpus` is the number of cores to compute on, by default all that this process may use.

    Raises:
        InputError: features are not finite, the disk is full, memory is short, or a decoding process died.
    """
    on_cpu, cpus = job.encoder.device.type == "cpu", cpus or cores()

    # On a CPU several passes of one thread each are faster than one pass of several threads, which wait for each other.
    streams = min(cpus, CPU_STREAMS) if on_cpu else GPU_STREAMS
    threads = max(1, cpus // streams)

    def start_stream() -> None:
        torch.set_num_threads(threads)
        if not on_cpu:
            torch.cuda.set_stream(torch.cuda.Stream(job.encoder.device))  # type: ignore[no-untyped-call]

    threads_before = torch.get_num_threads()
    ahead = 2 * max(1, job.workers)
    settings = DecodeSettings(job.folder, job.encoder.preprocess, job.views, job.index.reading)
    largest = max(job.images_in_batch(shard.views) * shard.views for shard in todo)
    # Enough slots for every batch that is decoded, waits for the encoder or is in it, so that no station waits.
    slots = ahead + streams + 2
    try:
        with (
            Decoders(settings, workers=job.workers, slots=slots, crops=largest) as decoders,
            _pool(1, "write") as writer,
            _pool(streams, "encode", start_stream) as encoders,
        ):
            pipeline = _Pipeline(job, shard_folder, advance, decoders, encoders, writer, ahead, streams + 1)
            return pipeline.run(todo)
    except torch.OutOfMemoryError as error:
        raise InputError(f"{error}\nFinished shards are kept: run again with a smaller compute.batch") from error
    finally:
        torch.set_num_threads(threads_before)


@contextmanager
def _pool(size: int, name: str, start: Callable[[], None] | None = None) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads that starts no further task once the context is left, also by an error."""
    pool = ThreadPoolExecutor(size, name, initializer=start)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass
class _OpenShard:
    """A shard in work.

    Attributes:
        shard: its rows of the index, n images.
        batches: per batch, features (images, K, D), and patch tokens (images, P, D) if any.
        invalid: images that may be left out.
        failed: whether an image failed that may not be left out; such a shard is not written.
    """

    shard: Shard
    batches: list[Future[tuple[Tensor, ...]]] = field(default_factory=list)
    invalid: list[Problem] = field(default_factory=list)
    failed: bool = False


@dataclass
class _Pipeline:
    """The batches in work, oldest first.

    The number of batches at each station is limited, so the memory is bounded, and large enough that none runs dry.
    """

    job: Extraction
    shard_folder: Path
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
        """Write all shards except those with images that failed; return these images."""
        for shard in shards:
            work = _OpenShard(shard)
            for rows in _batches(shard.rows, self.job.images_in_batch(shard.views)):
                images = [self.job.index.image(row) for row in rows]
                last = rows.stop == shard.rows.stop
                self.decoding.append((work, last, self.decoders.submit(images, shard.views)))
                if len(self.decoding) >= self.most_decoding:
                    self._hand_to_encoder()

        while self.decoding:
            self._hand_to_encoder()

        # `result` also raises what went wrong in a thread.
        for encoded in self.encoding:
            encoded.result()
        for written in self.writing:
            written.result()
        return self.problems

    def _hand_to_encoder(self) -> None:
        """Pass the oldest decoded batch to the encoder; after the last batch of a shard, have the shard written."""
        work, last, future = self.decoding.popleft()
        decoded = future.result()
        invalid = [problem for problem in decoded.problems if self.job.may_skip(problem)]
        work.invalid += invalid
        self.problems += decoded.problems
        work.failed |= len(decoded.problems) > len(invalid)
        self.advance(len(decoded.crops))

        # The other images of a failed shard are still decoded, so that every bad one is named, but not encoded.
        if work.failed:
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
        """Encode a batch as features (N, K, D), and patch tokens (N, P, D) if they are kept, float16 on the CPU."""
        try:
            job = self.job
            n, k = decoded.crops.shape[:2]
            crops = torch.from_numpy(decoded.crops).flatten(0, 1)
            if not job.patches:
                return (_to_stored(job.encoder.encode_crops(crops, job.precision).reshape(n, k, -1)),)

            features, patches = encode_with_patches(job.encoder, crops, job.precision)
            centre_patches = patches.reshape(n, k, *patches.shape[1:])[:, 0]
            return _to_stored(features.reshape(n, k, -1)), _to_stored(centre_patches)
        finally:
            self.decoders.release(decoded)

    def _write(self, work: _OpenShard) -> None:
        """Write the files of a shard whose batches are all submitted."""
        batches = [batch.result() for batch in work.batches]
        arrays = [torch.cat(parts).numpy() for parts in zip(*batches, strict=True)]

        # The crops of a skipped image are what an earlier batch left in the slot; zeros keep the bytes deterministic.
        paths = self.job.index.paths
        reasons = {problem.path: problem.reason for problem in work.invalid}
        for array in arrays:
            array[[paths[row] in reasons for row in work.shard.rows]] = 0

        finite = np.logical_and.reduce([np.isfinite(array).all(axis=(1, 2)) for array in arrays])
        raise_all(
            [paths[work.shard.rows[int(row)]] for row in np.flatnonzero(~finite)],
            f"features are not finite as float16, computed in {self.job.precision}: set extract.precision to float32; "
            "if it is float32 already, the weights may be damaged",
        )

        features = self.shard_folder / work.shard.key
        write_shard(features, arrays, chunk_rows(work.shard.views, self.job.patches), reasons)
        if self.job.bucket:
            self.job.bucket.put(features)


def _to_stored(values: Tensor) -> Tensor:
    """Copy to the CPU as float16; the copy waits for the stream of this thread alone, so its values are complete."""
    return values.to(torch.float16).cpu()


def _batches(rows: range, size: int) -> Iterator[range]:
    """Cut rows into consecutive batches of `size`, the last one may be smaller."""
    return (rows[start : start + size] for start in range(0, len(rows), size))
