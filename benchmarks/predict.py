"""Predictions with LiteCLIP: how soon the first one is there, and how fast the others follow.

`python -m benchmarks predict`. The limit of speed is the image tower alone on crops that are in memory. The classifier
is one of 100 made-up classes. `python -m benchmarks.predict FILE` predicts one image from a cold start, as a command
does; reading `params.yaml` and the choice, which it leaves out, takes milliseconds.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch.nn import functional as F

from benchmarks.extraction import CROPS, forward_only
from benchmarks.material import photographs
from benchmarks.measure import ROOT, Row, in_turn, seconds
from features.devices import pick_device
from features.encoder import load_encoder
from pipeline.methods.base import LinearClassifier
from pipeline.predicting import Model, predict

CLASSES = 100
FIRST = 5.0  # seconds that the first prediction may take


def model() -> Model:
    """LiteCLIP with a classifier of random directions."""
    encoder = load_encoder("liteclip", f"local-dir:{ROOT / 'assets' / 'liteclip'}", None, pick_device("auto"))
    weights = F.normalize(torch.randn(CLASSES, encoder.embed_dim), dim=-1).to(encoder.device)
    scored = torch.ones(CLASSES, dtype=torch.bool, device=encoder.device)
    return Model(
        task="made_up",
        run="made_up",
        seed=1,
        encoder=encoder,
        precision="float32",
        classifier=LinearClassifier(torch.tensor(100.0, device=encoder.device), scored, weights=weights),
        reads_patches=False,
        names=tuple(map(str, range(CLASSES))),
        seen=(True,) * CLASSES,
        temperature=None,
    )


def rows(*, small: bool) -> list[Row]:
    """Seconds to the first, and images a second."""
    made = model()
    with tempfile.TemporaryDirectory() as name:
        paths = [str(path) for path in photographs(Path(name), 11 * (8 if small else 80))]
        command = [sys.executable, "-m", "benchmarks.predict", paths[0]]
        first = min(seconds(lambda: run_module(command)) for _ in range(2 if small else 5))

        def ours() -> None:
            for _ in predict(made, paths, top=5):
                pass

        whole, forward = in_turn(ours, forward_only(made.encoder, len(paths) // CROPS), repeats=3 if small else 5)
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


if __name__ == "__main__":
    print(next(iter(predict(model(), sys.argv[1:], top=5))))
