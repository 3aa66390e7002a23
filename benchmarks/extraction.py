"""Extraction of LiteCLIP features in ten views and the centre crop, against its limits and a plain loop.

`python -m benchmarks extraction`. The limits are the image tower alone on crops in memory, and decoding alone on all
cores. The plain loop is Pillow, torchvision's crops and `encode_image`, image by image in one process.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.material import photographs
from benchmarks.measure import Row, in_turn
from benchmarks.memory import ROOT
from benchmarks.reference import Images
from features.datasets.base import Split
from features.encoding.augment import Views
from features.encoding.definition import EncoderSpec
from features.encoding.encoder import Encoder, load_encoder
from features.extraction.decode_worker import DecodeSettings
from features.extraction.decoding import Decoded, Decoders
from features.extraction.extract import extract
from features.extraction.pipeline import CPU_BATCH, Extraction
from features.formats.files import remove
from features.index_table import Index
from features.runtime.cores import cores
from features.runtime.devices import keep_freed_memory, pick_device

VIEWS = Views(count=10, scale=(0.5, 1.0), seed=0)
CROPS = 1 + VIEWS.count
PART = 8  # the plain loop runs over an eighth of the images, because each takes the same time
FORWARD_PART = 3  # the image tower alone runs over a third, for the same reason
LITECLIP = f"local-dir:{ROOT / 'assets' / 'liteclip'}"


def rows(*, small: bool) -> list[Row]:
    """Return the rows of extraction, in images per second."""
    count = 48 if small else 480
    keep_freed_memory()  # as stage `extract` does
    encoder = load_encoder("liteclip", EncoderSpec(model=LITECLIP), pick_device("auto"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = photographs(folder, count)
        job = Extraction(index_of(paths), folder, encoder, VIEWS, "float32", 128, workers=cores())
        plain = Images(plain_model(LITECLIP, encoder), paths)

        def ours() -> None:
            extract(job, folder / "out.zarr", folder / "scratch")
            remove(folder / "out.zarr")

        def loop() -> None:
            for row in range(count // PART):
                plain.encode([row] * CROPS)

        whole, part, forward, decode = in_turn(
            ours, loop, forward_only(encoder, count // FORWARD_PART), decode_only(job), warm=not small
        )
    forward *= FORWARD_PART
    speed = count / whole
    return [
        Row.of(
            "extract, against the slower of forward and decode",
            speed,
            count / max(forward, decode),
            unit="images/s",
            at_least=0.85,
        ),
        Row.of(
            "extract, against a plain loop",
            speed,
            count / (PART * part),
            unit="images/s",
            at_least=5 if torch.cuda.is_available() else 1.5,
        ),
    ]


def plain_model(name: str, encoder: Encoder) -> Any:
    """Return the same model as open_clip creates it, on the same device."""
    import open_clip

    return open_clip.create_model(name).eval().requires_grad_(False).to(encoder.device)


def index_of(paths: list[Path]) -> Index:
    """Return an index of the files as training images of one class."""
    train: Split = "train"
    return Index(
        paths=tuple(path.name for path in paths),
        class_ids=np.zeros(len(paths), np.int32),
        splits=(train,) * len(paths),
        sizes=np.array([path.stat().st_size for path in paths]),
        sha256=tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths),
    )


def forward_only(encoder: Encoder, count: int) -> Callable[[], None]:
    """Return a work that runs the image tower on crops in memory, a thread per core, in the batches of extraction."""
    size = CROPS if encoder.device.type == "cpu" else 128 // CROPS * CROPS
    crops = torch.randint(256, (min(size, CPU_BATCH), *encoder.preprocess.size, 3), dtype=torch.uint8)
    passes = count * CROPS // len(crops)

    def work() -> None:
        if encoder.device.type != "cpu":
            for _ in range(passes):
                encoder.encode_crops(crops)
            return
        with ThreadPoolExecutor(cores(), initializer=lambda: torch.set_num_threads(1)) as pool:
            list(pool.map(lambda _: encoder.encode_crops(crops), range(passes)))

    return work


def decode_only(job: Extraction) -> Callable[[], None]:
    """Return a work that decodes every image to its crops, with a process per core."""
    images = [job.index.image(row) for row in range(len(job.index.paths))]

    def work() -> None:
        settings = DecodeSettings(job.folder, job.encoder.preprocess, job.views)
        with Decoders(settings, workers=cores(), slots=2 * cores(), crops=CROPS) as decoders:
            pending: list[Future[Decoded]] = []
            for image in images:
                if len(pending) == 2 * cores():
                    decoders.release(pending.pop(0).result())
                pending.append(decoders.submit([image], CROPS))
            for future in pending:
                decoders.release(future.result())

    return work
