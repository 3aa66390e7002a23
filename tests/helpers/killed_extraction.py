"""An extraction that kills or interrupts its own process at a given moment.

It runs in a fork of a server that has torch imported, so that each of these processes starts in milliseconds instead of
the 6 s of CPU time that the imports take.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
import torch
from pictures import index_of, job

from features.encoding.augment import Preprocess
from features.encoding.encoder import Encoder
from features.extraction import extract as extraction
from features.extraction import pipeline as extraction_pipeline
from features.image_store import writer as image_store_writer

HELPERS = Path(__file__).resolve().parent
FORKS = multiprocessing.get_context("forkserver")

# Moment -> the function of which module, and at the end of which of its calls.
MOMENTS: dict[str, tuple[Any, str, int]] = {
    "first batch": (extraction_pipeline.Decoders, "submit", 3),
    "second shard encoded": (image_store_writer, "encode_shard", 2),
    "all shards finished": (extraction, "_raise_problems", 1),
    "store half written": (image_store_writer, "_link", 2),
    "store in place": (extraction, "write_store", 1),
    "never": (extraction, "remove", 99),
}


@dataclass(frozen=True)
class Ended:
    """The exit status of a process, negative after a signal, and what it printed on stderr."""

    status: int
    stderr: str


def run(folder: Path, moment: str, sign: signal.Signals = signal.SIGKILL) -> Ended:
    """Extract `folder/images` to `folder/a.zarr` in a process that sends itself a signal at the moment."""
    FORKS.set_forkserver_preload(["killed_extraction"])
    with pytest.MonkeyPatch.context() as environment:  # the server imports what it preloads by its own path
        environment.setenv("PYTHONPATH", os.pathsep.join([str(HELPERS), str(HELPERS.parents[1])]))
        forkserver.ensure_running()

    log = folder / "stderr.txt"
    process = FORKS.Process(target=_extract, args=(folder, moment, sign, log))
    process.start()
    process.join(300)
    assert process.exitcode is not None, "the process did not end"
    return Ended(process.exitcode, log.read_text(encoding="utf-8"))


class Flat(torch.nn.Module):
    """An image tower of one layer, for crops of 4 x 4 pixels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(48, 8)

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(pixels.flatten(1))
        return out


def _extract(folder: Path, moment: str, sign: signal.Signals, log: Path) -> None:
    stderr = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(stderr, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)

    image_store_writer.CROPS_IN_SHARD = 64
    preprocess = Preprocess((4, 4), (0.5,) * 3, (0.5,) * 3, "bicubic", "shortest")
    model = Flat().eval().requires_grad_(False)
    encoder = Encoder("flat", model, preprocess, 8, "0" * 64, torch.device("cpu"))
    _signal_after(*MOMENTS[moment], sign)

    images = folder / "images"
    paths = sorted(path.relative_to(images).as_posix() for path in images.rglob("*.png"))
    index = index_of(images, [(path, int(path.split("/")[1]), "train") for path in paths])
    extraction.extract(job(images, index, encoder, workers=2), folder / "a.zarr", folder / "scratch")


def _signal_after(owner: Any, name: str, calls: int, sign: signal.Signals) -> None:
    """Send the signal to this process at the end of the function's call of this number, from 1."""
    inner: Callable[..., Any] = getattr(owner, name)
    finished: list[None] = []

    def counted(*args: Any, **options: Any) -> Any:
        result = inner(*args, **options)
        finished.append(None)
        if len(finished) == calls:
            os.kill(os.getpid(), sign)
        return result

    setattr(owner, name, counted)
