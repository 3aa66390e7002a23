"""Predictions with LiteCLIP: how soon the first one is there, and how fast the others follow.

`python -m benchmarks predict`. The limit of speed is the image tower alone on crops that are in memory. The classifier
is one of 100 made-up classes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.extraction import CROPS, forward_only
from benchmarks.first_prediction import model
from benchmarks.material import photographs
from benchmarks.measure import ROOT, Row, in_turn
from pipeline.predicting import predict

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

        whole, forward = in_turn(ours, forward_only(made.encoder, len(paths) // CROPS), warm=not small)
    return [
        Row.of("first prediction from a cold start, against 5 s", first, FIRST, at_least=1.0),
        Row.of(
            "predict, against the image tower alone",
            len(paths) / whole,
            len(paths) / forward,
            unit="images/s",
            at_least=0.9,
        ),
    ]


def run_module(command: list[str]) -> None:
    """Run a child in the project to its end."""
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 (our own module)
