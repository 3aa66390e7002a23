"""Predict one image from a cold start: `python -m benchmarks.first_prediction FILE`.

It imports what `shipyard predict` imports. It does not read `params.yaml` and the selection, which takes milliseconds.
"""

from __future__ import annotations

import sys

import torch
from torch.nn import functional as F

import pipeline.cli.app  # noqa: F401 (for its time)
from benchmarks.memory import ROOT
from features.encoding.definition import EncoderSpec
from features.encoding.encoder import load_encoder
from features.encoding.images import Reading
from features.runtime.devices import keep_freed_memory, pick_device
from pipeline.inference.predict import Model, predict
from pipeline.methods.base import LinearClassifier

CLASSES = 100


def model() -> Model:
    """Return LiteCLIP with a classifier of random directions."""
    keep_freed_memory()  # as `shipyard predict` does
    encoder = load_encoder(
        "liteclip", EncoderSpec(model=f"local-dir:{ROOT / 'assets' / 'liteclip'}"), pick_device("auto")
    )
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
        reading=Reading(upright=True),
    )


if __name__ == "__main__":
    print(next(iter(predict(model(), sys.argv[1:], top=5))))
