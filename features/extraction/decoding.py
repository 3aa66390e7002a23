"""Processes that decode images ahead of the encoder, into memory that both share."""

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
from features.extraction.decode_worker import ImageRef, Problem, DecodeSettings, decode_batch

ROOT = Path(__file__).resolve().parents[2]  # what `python -m features...` is found from


@dataclass(frozen=True)
class Decoded:
    """A batch's crops, (N, K, height, width, 3) uint8, in a slot of the shared memory, and what went wrong.

    Whoever is done with `crops` calls `Decoders.release`, and does not look at them afterwards.
    """

    crops: NDArray[np.uint8]
    problems: list[Problem]
    slot: int


class Decoders(AbstractContextManager["Decoders"]):
    """A pool of `workers` processes (0: a thread of this one) and `slots` batches of memory.

    Leaving the context ends the processes at once, also those that are at work.
    """

    def __init__(self, recipe: DecodeSettings, *, workers: int, slots: int, crops: int) -> None:
        """Start the processes; a slot holds `crops` crops."""
        self.recipe = recipe
        height, width = recipe.preprocess.size
        self._slot_bytes = crops * height * width * 3
        self._file, self._memory = _shared_memory(slots * self._slot_bytes)
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(slots):
            self._free.put(slot)
        # Each thread waits for one process; the processes start in parallel, before the first batch is asked for.
        self._mine = threading.local()
        self._processes = [_start(recipe, self._file) for _ in range(workers)]
        unclaimed = iter(self._processes)
        lock = threading.Lock()

        def claim() -> None:
            with lock:
                self._mine.process = next(unclaimed, None)

        self._threads = ThreadPoolExecutor(max(1, workers), "decode", initializer=claim)

    def submit(self, images: Sequence[ImageRef], views: int) -> Future[Decoded]:
        """Decode N images in `views` crops each; waits for a free slot, not for the result."""
        slot = self._free.get()
        return self._threads.submit(self._decode, slot, images, views)

    def release(self, decoded: Decoded) -> None:
        """Give a batch's slot back."""
        self._free.put(decoded.slot)

    def _decode(self, slot: int, images: Sequence[ImageRef], views: int) -> Decoded:
        shape = (len(images), views, *self.recipe.preprocess.size, 3)
        offset = slot * self._slot_bytes
        out = np.frombuffer(self._memory, np.uint8, int(np.prod(shape)), offset).reshape(shape)
        if self._mine.process is None:
            return Decoded(out, decode_batch(images, self.recipe, out), slot)
        return Decoded(out, _ask(self._mine.process, [offset, len(images), views, images]), slot)

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            with contextlib.suppress(BrokenPipeError):
                process.communicate()
        os.close(self._file)


def _shared_memory(size: int) -> tuple[int, mmap.mmap]:
    """Anonymous memory that children inherit by its descriptor; it is gone with the last process that holds it."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("shipyard-crops")
    else:
        with tempfile.TemporaryFile() as unnamed:
            file = os.dup(unnamed.fileno())
    os.ftruncate(file, size)
    return file, mmap.mmap(file, size)


def _start(recipe: DecodeSettings, file: int) -> subprocess.Popen[str]:
    # An own process group, so that Ctrl-C reaches this process alone, which then ends them.
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(  # noqa: S603 - our own module, with values of our own
        [sys.executable, "-m", decode_worker.__name__, str(file), recipe.dumps()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[file],
        process_group=0,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


def _ask(process: subprocess.Popen[str], job: list[Any]) -> list[Problem]:
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        raise TypeError("the process was started without pipes")
    with contextlib.suppress(BrokenPipeError):
        stdin.write(json.dumps(job) + "\n")
        stdin.flush()
        if line := stdout.readline():
            return [Problem(*problem) for problem in json.loads(line)]
    raise InputError(
        f"a process that decodes images ended by itself (exit status {process.wait()}; -9 is often too little memory). "
        "Shards that are finished are kept: run again, with fewer compute.workers if memory is short"
    )
