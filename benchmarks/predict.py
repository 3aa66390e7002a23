"""Predictions with LiteCLIP: time to the first one, and images per second.

`python -m benchmarks predict`. The speed is compared with that of the image tower alone on crops in memory: as
open_clip creates it, by `encode_image` with all cores on one batch; and with folded batch norms, as this project runs
it, in a thread per core. The classifier has 100 made-up classes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.extraction import CROPS, FORWARD_PART, LITECLIP, forward_only, plain_model
from benchmarks.first_prediction import model
from benchmarks.material import photographs
from benchmarks.measure import Row, in_turn
from benchmarks.memory import ROOT
from features.encoding.encoder import Encoder
from pipeline.inference.predict import predict

MAX_FIRST_SECONDS = 5.0


def rows(*, small: bool) -> list[Row]:
    """Return the rows of the first prediction and of the speed."""
    predictor = model()
    with tempfile.TemporaryDirectory() as name:
        paths = [str(path) for path in photographs(Path(name), CROPS * (24 if small else 96))]
        command = [sys.executable, "-m", "benchmarks.first_prediction", paths[0]]
        (first,) = in_turn(lambda: run_module(command), warm=False)

        def ours() -> None:
            for _ in predict(predictor, paths, top=5):
                pass

        images = len(paths) // FORWARD_PART
        towers = plain_forward(predictor.encoder, images), forward_only(predictor.encoder, images // CROPS)
        whole, plain, forward = in_turn(ours, *towers, warm=not small)
    speed = len(paths) / whole
    return [
        Row.of("first prediction from a cold start, against 5 s", first, MAX_FIRST_SECONDS, at_least=1.0),
        Row.of(
            "predict, against open_clip's own image tower alone", speed, images / plain, unit="images/s", at_least=0.9
        ),
        Row.of("predict, against our image tower alone", speed, images / forward, unit="images/s", at_least=0.9),
    ]


def plain_forward(encoder: Encoder, count: int) -> Callable[[], None]:
    """Return a work that runs open_clip's model on normalized crops in memory, in the batches of `forward_only`."""
    model = plain_model(LITECLIP, encoder)
    pixels = torch.randn(CROPS, 3, *encoder.preprocess.size, device=encoder.device)

    def work() -> None:
        with torch.inference_mode():
            for _ in range(count // CROPS):
                model.encode_image(pixels)

    return work


def run_module(command: list[str]) -> None:
    """Run a child process in the project to its end."""
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 (our own module)
