"""Tests on photographs: 20 classes of Caltech101 with LiteCLIP, compared with open_clip and with zero-shot CLIP."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import index_of
from PIL import Image
from project_root import ROOT
from torch.nn import functional as F

from features.datasets.base import Split
from features.encoding.augment import Views
from features.encoding.definition import EncoderSpec
from features.encoding.encoder import load_encoder
from features.encoding.open_clip_text import from_open_clip
from features.extraction.extract import extract
from features.extraction.pipeline import Extraction
from features.image_store.store import ImageStore
from features.text.classes import encode_classes
from features.text.text_tower import TextTower
from pipeline.generators.ship import Ship
from pipeline.methods.base import Classifier, FitData
from pipeline.methods.coop import CoOp
from pipeline.methods.zero_shot import ZeroShot
from pipeline.training.data import ClassSet, LabelledFeatures
from pipeline.training.seeds import stream

LITECLIP = f"local-dir:{ROOT / 'assets' / 'liteclip'}"
TEMPLATE = "a photo of a {}."
CLASSES, BASE, SHOTS, TESTED = 20, 10, 16, 10


@dataclass(frozen=True)
class Photos:
    """Features of the shots of 10 base classes and of the test images of 20 classes, with the paths of the latter."""

    folder: Path
    paths: list[str]
    train: LabelledFeatures
    test: LabelledFeatures
    classes: ClassSet
    tower: TextTower


@pytest.fixture(scope="module")
def photos(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Photos:
    folder = shared / "data/caltech-101/101_ObjectCategories"
    official = json.loads((shared / "splits/coop/split_zhou_Caltech101.json").read_text(encoding="utf-8"))
    rows: list[tuple[str, int, Split]] = []
    for split, count, classes in (("train", SHOTS, BASE), ("test", TESTED, CLASSES)):
        for class_id in range(classes):
            of_class = [path for path, label, _ in official[split] if label == class_id]
            rows += [(path, class_id, split) for path in of_class[:count]]  # type: ignore[list-item]
    names = {label: name for _, label, name in official["train"]}
    encoder = load_encoder("liteclip", EncoderSpec(model=LITECLIP), torch.device("cpu"))
    views = Views(count=2, scale=(0.5, 1.0), seed=0)
    job = Extraction(index_of(folder, rows), folder, encoder, views, "float32", batch=32, workers=0)
    out = tmp_path_factory.mktemp("caltech")
    extract(job, out / "store.zarr", out / "scratch")
    store = ImageStore.open(out / "store.zarr")
    tower = from_open_clip(encoder.model, encoder.name, encoder.weights_sha256)
    texts = encode_classes([names[i] for i in range(CLASSES)], [TEMPLATE], tower)
    classes_of_task = ClassSet(
        names=texts.names,
        seen=torch.arange(CLASSES) < BASE,
        text_features=torch.from_numpy(texts.zero_shot_weights()),
        text_norms=torch.from_numpy(texts.text_norms()),
        tokens=torch.from_numpy(texts.tokens),
        logit_scale=texts.logit_scale,
    )
    train, test = (_features(store, split) for split in ("train", "test"))
    return Photos(folder, [path for path, _, split in rows if split == "test"], train, test, classes_of_task, tower)


def _features(store: ImageStore, split: Split) -> LabelledFeatures:
    arrays = store.load(split)
    labels = torch.from_numpy(arrays.labels.astype(np.int64))
    return LabelledFeatures(torch.from_numpy(arrays.features.astype(np.float32)), labels)


def accuracy(classifier: Classifier, test: LabelledFeatures, ids: torch.Tensor) -> float:
    rows = torch.isin(test.labels, ids)
    predicted = ids[classifier.logits(test.centre[rows], ids).argmax(1)]
    return float((predicted == test.labels[rows]).float().mean())


def fit(method: CoOp | ZeroShot, photos: Photos) -> Classifier:
    none = LabelledFeatures(photos.test.features[:0], photos.test.labels[:0])
    return method.fit(
        FitData(photos.train, photos.classes, synthetic=None, validation=none, tower=photos.tower, rng=stream(1, "fit"))
    )


def test_zero_shot_accuracy_equals_open_clip_on_200_photographs(photos: Photos) -> None:
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(LITECLIP)
    model.eval()
    tokens = open_clip.get_tokenizer(LITECLIP)([TEMPLATE.format(n.replace("_", " ")) for n in photos.classes.names])
    with torch.inference_mode():
        text = F.normalize(model.encode_text(tokens), dim=-1)
        images = [preprocess(Image.open(photos.folder / path).convert("RGB")) for path in photos.paths]
        image = F.normalize(torch.cat([model.encode_image(part) for part in torch.stack(images).split(50)]), dim=-1)
    plain = ((image @ text.T).argmax(1) == photos.test.labels).float().mean()
    assert len(images) == 200
    assert accuracy(fit(ZeroShot(), photos), photos.test, torch.arange(CLASSES)) == float(plain)


def test_coop_raises_base_accuracy_over_zero_shot(photos: Photos) -> None:
    base = photos.classes.seen_ids
    coop = accuracy(fit(CoOp(epochs=100, learning_rate=0.03), photos), photos.test, base)
    assert coop > accuracy(fit(ZeroShot(), photos), photos.test, base) + 0.05


def test_ship_reconstructs_held_out_seen_images_better_than_their_class_text(photos: Photos) -> None:
    settings = Ship(epochs=20, batch=32, encoder_width=512, generator_width=512)
    model = settings.fit(photos.train, photos.classes, photos.tower, stream(1, "train_generator"), lambda _: None)
    rows = photos.test.labels < BASE
    x, labels = photos.test.centre[rows], photos.test.labels[rows]
    with torch.inference_mode():
        mu, _ = model.posterior(x)
        x_hat = model.decode(mu, photos.classes.tokens[labels], photos.tower)
    distance = (x_hat - x).square().sum(1).mean()
    assert float(distance) < float((photos.classes.text_features[labels] - x).square().sum(1).mean())
