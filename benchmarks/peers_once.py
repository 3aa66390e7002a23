"""Compute the features of photographs once, by `extract` or a peer: `python -m benchmarks.peers_once WHO FOLDER`.

Each imports what it needs and no more, because the imports are measured, too.
"""

# ruff: noqa: PLC0415 (as above)
from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks.memory import ROOT

COUNT = 512  # photographs
WORKERS = 2
BATCH = 32
LITECLIP = f"local-dir:{ROOT / 'assets' / 'liteclip'}"


def _extract(folder: Path) -> None:
    from benchmarks.extraction import index_of
    from features.encoding.augment import Views
    from features.encoding.definition import EncoderSpec
    from features.encoding.encoder import load_encoder
    from features.extraction.extract import extract
    from features.extraction.pipeline import Extraction
    from features.runtime.devices import keep_freed_memory

    keep_freed_memory()  # as stage `extract` does
    encoder = load_encoder("liteclip", EncoderSpec(model=LITECLIP), "cpu")
    index = index_of(sorted((folder / "photos/all").iterdir()))
    views = Views(count=0, scale=(0.5, 1.0), seed=0)
    job = Extraction(index, folder / "photos/all", encoder, views, "float32", 128, workers=WORKERS)
    extract(job, folder / "out.zarr", folder / "scratch")


def _data_loader(folder: Path) -> None:
    model, transform = _open_clip()
    _encode(model, (pixels for pixels, _ in _loader(folder, transform)))


def _hugging_face(folder: Path) -> None:
    from datasets import Dataset, Image

    model, transform = _open_clip()
    files = [str(file) for file in sorted((folder / "photos/all").iterdir())]
    data = Dataset.from_dict({"image": files}).cast_column("image", Image())
    data = data.with_transform(lambda rows: {"pixels": [transform(image.convert("RGB")) for image in rows["image"]]})
    loader = torch.utils.data.DataLoader(data, BATCH, num_workers=WORKERS)
    _encode(model, (batch["pixels"] for batch in loader))


def _clip_benchmark(folder: Path) -> None:
    from clip_benchmark.metrics.zeroshot_classification import run_classification, zero_shot_classifier
    from open_clip import get_tokenizer

    model, transform = _open_clip()
    loader = _loader(folder, transform)
    names = loader.dataset.classes
    classifier = zero_shot_classifier(model, get_tokenizer(LITECLIP), names, ["{c}"], "cpu", amp=False)
    logits, _ = run_classification(model, classifier, loader, "cpu", amp=False)
    _check(len(logits))


def _loader(folder: Path, transform: Any) -> Any:
    from torchvision.datasets import ImageFolder

    return torch.utils.data.DataLoader(ImageFolder(folder / "photos", transform), BATCH, num_workers=WORKERS)


def _open_clip() -> tuple[Any, Any]:
    import open_clip

    model, _, transform = open_clip.create_model_and_transforms(LITECLIP)
    return model.eval(), transform


def _encode(model: Any, batches: Iterable[torch.Tensor]) -> None:
    with torch.inference_mode():
        features = torch.cat([model.encode_image(pixels).half() for pixels in batches])
    _check(len(features))


def _check(count: int) -> None:
    if count != COUNT:
        raise SystemExit(f"{count} features of {COUNT} photographs")


WORKS: dict[str, Callable[[Path], None]] = {
    "extract": _extract,
    "a DataLoader": _data_loader,
    "Hugging Face datasets": _hugging_face,
    "CLIP_benchmark": _clip_benchmark,
}

if __name__ == "__main__":
    WORKS[sys.argv[1]](Path(sys.argv[2]))
