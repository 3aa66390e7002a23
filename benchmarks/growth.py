"""Growth of time and memory with images and seeds: the exponent of a power law through the measurements.

`python -m benchmarks growth`. Growth with classes is in `training`, where the text tower's passes are timed. In these
rows `ours` is the exponent and `reference` its upper limit. Extraction runs with an encoder of one layer on crops of 32
pixels, so that the cost of the pipeline shows instead of the encoder's.
"""

from __future__ import annotations

import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from benchmarks.extraction import index_of
from benchmarks.material import class_set, features, imagenet_names, open_clip_model, text_tower
from benchmarks.measure import LINEAR, Row, in_turn
from benchmarks.memory import own_peak_bytes, peak_bytes
from features.encoding.augment import Views
from features.encoding.definition import EncoderSpec
from features.encoding.encoder import load_encoder
from features.extraction.extract import extract
from features.extraction.pipeline import Extraction
from features.formats.files import remove
from features.runtime.devices import keep_freed_memory
from features.text.text_tower import TextTower
from pipeline.methods.base import FitData
from pipeline.methods.taskres import TaskRes
from pipeline.training.seeds import stream

TINY = {
    "model_cfg": {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 64, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.3, 0.3, 0.3]},
}


def rows(*, small: bool) -> list[Row]:
    """Return the exponents of time, and of the memory of extraction."""
    images = (1_000, 4_000) if small else (1_000, 4_000, 16_000, 64_000)
    times, peaks = zip(*map(_extracted, images), strict=True)
    seeds = (1, 2, 4, 8)
    tower = text_tower(open_clip_model())
    of_seeds = in_turn(*(partial(_fit, tower, count) for count in seeds), warm=not small)
    return [
        Row.growth(f"time of extraction, {images[0]:,} to {images[-1]:,} images", images, times, most=LINEAR),
        Row.growth("peak memory of extraction", images, peaks, most=0.1),
        Row.growth(f"time of fitting, {seeds[0]} to {seeds[-1]} seeds", seeds, of_seeds, most=LINEAR),
    ]


def _fit(tower: TextTower, seeds: int) -> None:
    names = imagenet_names()[:100]
    labels = torch.arange(800) % 50
    classes = class_set(tower, names)
    train = features(labels, 1, tower.config.embed_dim)
    for seed in range(seeds):
        TaskRes(epochs=4).fit(
            FitData(train, classes, synthetic=None, validation=train, tower=tower, rng=stream(seed, "bench"))
        )


def _extracted(count: int) -> tuple[float, float]:
    """Return seconds and peak bytes of extracting `count` images, several times in one child process."""
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "images"
        pictures.mkdir()
        Image.effect_noise((40, 40), 60).convert("RGB").save(Path(folder) / "one.jpg")
        data = (Path(folder) / "one.jpg").read_bytes()
        for number in range(count):
            (pictures / f"{number:05}.jpg").write_bytes(data)
        (Path(folder) / "open_clip_config.json").write_text(json.dumps(TINY), encoding="utf-8")
        peak = peak_bytes("benchmarks.growth", folder)
        return float((Path(folder) / "seconds").read_text(encoding="utf-8")), float(peak)


def main(folder: Path) -> None:
    """Extract several times, write the median into the file `seconds`, and print the peak memory."""
    keep_freed_memory()  # as stage `extract` does
    encoder = load_encoder("tiny", EncoderSpec(model=f"local-dir:{folder}", pretrained="random:0"), "cpu")
    paths = sorted((folder / "images").iterdir())
    views = Views(count=0, scale=(0.5, 1.0), seed=0)
    job = Extraction(index_of(paths), folder / "images", encoder, views, "float32", 128, workers=2)

    def work() -> None:
        extract(job, folder / "out.zarr", folder / "scratch")
        remove(folder / "out.zarr")

    (median,) = in_turn(work, warm=False)
    (folder / "seconds").write_text(str(median), encoding="utf-8")
    print(own_peak_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
