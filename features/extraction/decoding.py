"""Decode images in processes that run ahead of the encoder, into memory that both share.

Not a `ProcessPoolExecutor`: its workers import torch with the parent's modules (seconds instead of 0.2 s each) or are
forked from a process with running threads, and its results are pickled instead of written in place.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from features.extraction import decode_worker
from features.extraction.decode_worker import DecodeSettings, Problem, decode_batch
from features.shards.source import ImageRef, ImageSource

ROOT = Path(__file__).resolve().parents[2]  # the folder in which `python -m features...` finds its module


@dataclass(frozen=True)
class Decoded:
    """The crops of a batch in a slot of the shared memory, and its failures.

    The consumer of `crops` calls `Decoders.release` and does not read them afterwards.

    Attributes:
        crops: (N, K, height, width, 3) uint8; rows of images with a problem are undefined.
        problems: images without crops.
        slot: number of the slot.
    """

    crops: NDArray[np.uint8]
    problems: list[Problem]
    slot: int


class Decoders(AbstractContextManager["Decoders"]):
    """A pool of `workers` processes (0: a thread of this process) and `slots` batches of memory.

    Leaving the context ends the processes at once, even those at work.
    """

    def __init__(self, settings: DecodeSettings, *, workers: int, slots: int, crops: int) -> None:
        """Start the processes; a slot has room for `crops` crops."""
        self.settings = settings
        self._source = ImageSource(settings.base)  # of the thread that decodes if there are no processes
        height, width = settings.preprocess.size
        self._slot_bytes = crops * height * width * 3
        self._file, self._memory = _shared_memory(slots * self._slot_bytes)
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(slots):
            self._free.put(slot)

        # Each thread waits for one process. All processes start in parallel, before the first batch is submitted.
        self._local = threading.local()
        self._processes = [_start(settings, self._file) for _ in range(workers)]
        unclaimed = iter(self._processes)
        lock = threading.Lock()

        def claim_process() -> None:
            with lock:
                self._local.process = next(unclaimed, None)

        self._threads = ThreadPoolExecutor(max(1, workers), "decode", initializer=claim_process)

    def submit(self, images: Sequence[ImageRef], views: int) -> Future[Decoded]:
        """Decode N images in `views` crops each; waits for a free slot, but not for the result."""
        slot = self._free.get()
        return self._threads.submit(self._decode, slot, images, views)

    def release(self, decoded: Decoded) -> None:
        """Return the slot of a batch, for another batch."""
        self._free.put(decoded.slot)

    def _decode(self, slot: int, images: Sequence[ImageRef], views: int) -> Decoded:
        shape = (len(images), views, *self.settings.preprocess.size, 3)
        offset = slot * self._slot_bytes
        out = np.frombuffer(self._memory, np.uint8, int(np.prod(shape)), offset).reshape(shape)

        if self._local.process is None:
            return Decoded(out, decode_batch(images, self.settings, self._source, out), slot)
        return Decoded(out, _request(self._local.process, [offset, len(images), views, images]), slot)

    def __exit__(self, *_: object) -> None:
        # Kill before the threads are joined: a thread may be waiting for its process.
        for process in self._processes:
            process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            with contextlib.suppress(BrokenPipeError):
                process.communicate()
        os.close(self._file)


def _shared_memory(size: int) -> tuple[int, mmap.mmap]:
    """Return anonymous memory and its descriptor, which children inherit; the last process to hold it frees it."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("shipyard-crops")
    else:
        with tempfile.TemporaryFile() as unnamed:
            file = os.dup(unnamed.fileno())
    os.ftruncate(file, size)
    return file, mmap.mmap(file, size)


def _start(settings: DecodeSettings, file: int) -> subprocess.Popen[str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(  # noqa: S603 - our own module, with values of our own
        [sys.executable, "-m", decode_worker.__name__, str(file), settings.to_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[file],
        process_group=0,  # a group of its own: Ctrl-C reaches only this process, which then ends the others
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


def _request(process: subprocess.Popen[str], job: list[Any]) -> list[Problem]:
    """Send a job to a process and wait for its answer."""
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        raise TypeError("the process was started without pipes")

    with contextlib.suppress(BrokenPipeError):
        stdin.write(json.dumps(job) + "\n")
        stdin.flush()
        if line := stdout.readline():
            return [Problem(*problem) for problem in json.loads(line)]
    raise InputError(
        f"a decoding process ended unexpectedly (exit status {process.wait()}; -9 often means too little memory). "
        "Finished shards are kept: run again, with fewer compute.workers if memory is short"
    )
