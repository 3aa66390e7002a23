"""Small real pictures, their index, and a small encoder that open_clip builds like any other; nothing is mocked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from features.datasets.base import SPLITS, Split
from features.encoding.augment import Views
from features.encoding.definition import EncoderSpec
from features.encoding.encoder import Encoder, load_encoder
from features.extraction.pipeline import Extraction
from features.index_table import Index

TINY = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
}
VIEWS = Views(count=2, scale=(0.5, 1.0), seed=0)


def tiny_encoder(folder: Path, seed: int = 0) -> Encoder:
    """Return a vision transformer with one layer and random weights, for crops of 32 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(TINY), encoding="utf-8")
    return load_encoder("tiny", EncoderSpec(model=f"local-dir:{folder}", pretrained=f"random:{seed}"), "cpu")


def picture(seed: int) -> Image.Image:
    """Return a picture of smooth colours; the seed also gives its size, 33 to 79 pixels a side."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return coarse.resize((int(rng.integers(33, 80)), int(rng.integers(33, 80))), Image.Resampling.BICUBIC)


def make_images(folder: Path, counts: Mapping[Split, int]) -> Index:
    """Write pictures of three classes into `folder`, `counts` of them in each split, and return their index."""
    rows: list[tuple[str, int, Split]] = []
    for split in SPLITS:
        ids = sorted(number % 3 for number in range(counts.get(split, 0)))
        rows += [(f"{split}/{class_id}/{number:03}.png", class_id, split) for number, class_id in enumerate(ids)]

    for number, (path, _, _) in enumerate(rows):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / path)
    return index_of(folder, rows)


def index_of(folder: Path, rows: list[tuple[str, int, Split]]) -> Index:
    """Return the index of (path, class id, split) rows, with the current size and checksum of each file."""
    data = [(folder / path).read_bytes() for path, _, _ in rows]
    return Index(
        paths=tuple(path for path, _, _ in rows),
        class_ids=np.array([class_id for _, class_id, _ in rows], np.int32),
        splits=tuple(split for _, _, split in rows),
        sizes=np.array([len(content) for content in data], np.int64),
        sha256=tuple(hashlib.sha256(content).hexdigest() for content in data),
    )


def reindex(folder: Path, index: Index) -> Index:
    """Return an index of the same rows, with the current size and checksum of each file."""
    return index_of(folder, list(zip(index.paths, index.class_ids.tolist(), index.splits, strict=True)))


def job(folder: Path, index: Index, encoder: Encoder, **changes: Any) -> Extraction:
    """Return an extraction with small settings."""
    settings: dict[str, Any] = {"views": VIEWS, "precision": "float32", "batch": 6, "workers": 0, **changes}
    return Extraction(index=index, folder=folder, encoder=encoder, **settings)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder, by its path in the folder."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
