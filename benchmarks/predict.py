"""Predictions with LiteCLIP: how soon the first one is there, and how fast the others follow.

`python -m benchmarks predict`. The speed is held to that of the image tower alone on crops that are in memory: as
open_clip makes it, by `encode_image` with all cores on one batch; and ours, whose batch norms are folded, in a thread a
core. The classifier is one of 100 made-up classes.
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
from benchmarks.measure import ROOT, Row, in_turn
from features.encoding.encoder import Encoder
from pipeline.inference.predict import predict

FIRST = 5.0  # seconds that the first prediction may take


def rows(*, small: bool) -> list[Row]:
    """Seconds to the first, and images a second."""
    made = model()
    with tempfile.TemporaryDirectory() as name:
        paths = [str(path) for path in photographs(Path(name), CROPS * (24 if small else 96))]
        command = [sys.executable, "-m", "benchmarks.first_prediction", paths[0]]
        (first,) = in_turn(lambda: run_module(command), warm=False)

        def ours() -> None:
            for _ in predict(made, paths, top=5):
                pass

        images = len(paths) // FORWARD_PART
        towers = plain_forward(made.encoder, images), forward_only(made.encoder, images // CROPS)
        whole, plain, forward = in_turn(ours, *towers, warm=not small)
    speed = len(paths) / whole
    return [
        Row.of("first prediction from a cold start, against 5 s", first, FIRST, at_least=1.0),
        Row.of(
            "predict, against open_clip's own image tower alone", speed, images / plain, unit="images/s", at_least=0.9
        ),
        Row.of("predict, against our image tower alone", speed, images / forward, unit="images/s", at_least=0.9),
    ]


def plain_forward(encoder: Encoder, count: int) -> Callable[[], None]:
    """open_clip's model as it makes it, on normalised crops in memory, in the batches of `forward_only`."""
    model = plain_model(LITECLIP, encoder)
    pixels = torch.randn(CROPS, 3, *encoder.preprocess.size, device=encoder.device)

    def work() -> None:
        with torch.inference_mode():
            for _ in range(count // CROPS):
                model.encode_image(pixels)

    return work


def run_module(command: list[str]) -> None:
    """Run a child in the project to its end."""
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 (our own module)
