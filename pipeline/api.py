"""The pipeline without DVC, for notebooks and scripts: features of images and names, a method fitted, a score.

    from pipeline import api

    clip = api.load_clip()
    classes = api.class_set(clip, seen=["cat", "dog"], unseen=["fox"])
    train = api.labelled(api.image_features(clip, paths), labels)
    made = api.synthesize("ship", train, classes, clip.tower)
    classifier = api.fit("coop", train, classes, synthetic=made, tower=clip.tower)
    api.accuracy(classifier, test)

The same functions as the stages', the same seeds; nothing is written. Names of methods and generators are those of the
files in `pipeline/methods` and `pipeline/generators`, and settings are their fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import pipeline.generators
import pipeline.methods
from features.datasets.base import Split
from features.encoding.augment import centre_crop
from features.encoding.encoder import Encoder, load_encoder
from features.encoding.images import read_image
from features.encoding.open_clip_text import from_open_clip
from features.image_store.store import ImageStore
from features.lookup import find
from features.runtime.devices import pick_device
from features.settings import parse
from features.text.classes import encode_classes
from features.text.text_tower import TextTower
from pipeline.generators.base import Generator
from pipeline.methods.base import Classifier, FitData, Method
from pipeline.metrics import accuracy as metrics
from pipeline.steps.evaluate import score
from pipeline.steps.synthesize import sample
from pipeline.training.data import ClassSet, LabelledFeatures, refuse_unusable
from pipeline.training.seeds import stream

BATCH = 16  # images a pass: what a CPU does best


@dataclass(frozen=True)
class Clip:
    """A frozen CLIP: the whole of it for images, its text tower for names and prompts, on one device."""

    encoder: Encoder
    tower: TextTower


def load_clip(model: str = "local-dir:assets/liteclip", pretrained: str | None = None, device: str = "auto") -> Clip:
    """Load any CLIP that open_clip can make; the default is the small stand-in that comes with the project.

    Raises:
        InputError: an unknown model, or weights that are not here and cannot be fetched.
    """
    encoder = load_encoder(model.rpartition("/")[2], model, pretrained, pick_device(device))
    tower = from_open_clip(encoder.model, encoder.name, encoder.weights_sha256)
    return Clip(encoder, tower.to(encoder.device).freeze())


def class_set(
    clip: Clip, seen: Sequence[str], unseen: Sequence[str] = (), templates: Sequence[str] = ("a photo of a {}.",)
) -> ClassSet:
    """Classes by name, the seen ones first: label i is `[*seen, *unseen][i]`."""
    names = (*seen, *unseen)
    texts = encode_classes(names, templates, clip.tower)
    return ClassSet(
        names=names,
        seen=torch.arange(len(names)) < len(seen),
        text_features=torch.from_numpy(texts.zero_shot_weights()),
        tokens=torch.from_numpy(texts.tokens),
        logit_scale=texts.logit_scale,
    ).to(clip.encoder.device)


def image_features(clip: Clip, paths: Sequence[Path]) -> Tensor:
    """Centre-crop features of image files: (N, D) float32, not normalised.

    Raises:
        UnreadableImageError: a file is no image, or cut short.
    """
    crops = np.stack([np.asarray(centre_crop(read_image(path), clip.encoder.preprocess)) for path in paths])
    batches = torch.split(torch.from_numpy(crops), BATCH)
    return torch.cat([clip.encoder.encode_crops(batch) for batch in batches])


def load_store(path: Path, split: Split) -> LabelledFeatures:
    """One split of a Zarr store of image features, with all its views; labels are the data set's class ids.

    Raises:
        InputError: there is no such store or split, or it is damaged.
    """
    found = ImageStore.open(Path(path)).load(split)
    features, labels = found.features[found.valid].astype(np.float32), found.labels[found.valid].astype(np.int64)
    return LabelledFeatures(torch.from_numpy(features), torch.from_numpy(labels))


def labelled(features: Tensor, labels: Sequence[int]) -> LabelledFeatures:
    """Features (N, D) with labels, positions in a `ClassSet`."""
    return LabelledFeatures(features[:, None], torch.tensor(labels, dtype=torch.int64, device=features.device))


def synthesize(
    generator: str,
    train: LabelledFeatures,
    classes: ClassSet,
    tower: TextTower,
    *,
    per_class: int = 64,
    seed: int = 1,
    **settings: object,
) -> LabelledFeatures:
    """Train a generator on images of seen classes; `per_class` features of each unseen class (M, 1, D).

    Raises:
        InputError: an unknown generator or setting.
    """
    chosen = parse(find(pipeline.generators, generator, Generator), settings, generator)
    fitted = chosen.fit(train, classes, tower, stream(seed, "train_generator"), lambda _: None)
    ids = classes.unseen_ids.repeat_interleave(per_class)
    made = torch.from_numpy(sample(fitted, ids, classes, tower, stream(seed, "synthesize"))).float()
    return LabelledFeatures(made[:, None].to(ids.device), ids)


def fit(
    method: str,
    train: LabelledFeatures,
    classes: ClassSet,
    *,
    synthetic: LabelledFeatures | None = None,
    validation: LabelledFeatures | None = None,
    tower: TextTower | None = None,
    seed: int = 1,
    **settings: object,
) -> Classifier:
    """Fit a method; `validation` is of seen classes, none at all by default.

    Raises:
        InputError: an unknown method or setting, or features that do not fit together.
    """
    chosen = parse(find(pipeline.methods, method, Method), settings, method)
    held_out = validation or LabelledFeatures(train.features[:0, :1], train.labels[:0])
    refuse_unusable(classes, train=train, validation=held_out, synthetic=synthetic)
    fitted = chosen.fit(
        FitData(train, classes, synthetic=synthetic, validation=held_out, tower=tower, rng=stream(seed, "finetune"))
    )
    return fitted if tower is None else fitted.with_text_tower(tower)


def accuracy(classifier: Classifier, test: LabelledFeatures, candidates: Tensor | None = None) -> float:
    """Top-1 accuracy in percent among `candidates` (M,), all classes by default.

    Raises:
        InputError: a candidate that the classifier cannot score.
    """
    ids = torch.arange(len(classifier.scored)) if candidates is None else candidates.cpu()
    places = {int(class_id): place for place, class_id in enumerate(ids)}
    labels = torch.tensor([places[int(label)] for label in test.labels])
    logits = score(classifier, F.normalize(test.features[:, 0], dim=-1), ids.to(test.labels.device))
    return metrics.accuracy(logits, labels)
