"""The pipeline without DVC, for notebooks and scripts: features of images and names, a fitted method, an accuracy.

    from pipeline import api

    clip = api.load_clip()
    classes = api.class_set(clip, seen=["cat", "dog"], unseen=["fox"])
    train = api.labelled(api.image_features(clip, paths), labels)
    synthetic = api.synthesize("ship", train, classes, clip.tower)
    classifier = api.fit("coop", train, classes, synthetic=synthetic, tower=clip.tower)
    api.accuracy(classifier, test)

These are the functions and seeds of the stages; nothing is written. Names of methods and generators are those of the
files in `pipeline/methods` and `pipeline/generators`. Their settings come, in this order, from the keywords of the
call, from the repository's `params.yaml` with its values for the encoder of `tower`, and from the fields of the file.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import pipeline.generators
import pipeline.methods
from features.datasets.base import Split
from features.encoding.augment import centre_crop
from features.encoding.definition import EncoderSpec
from features.encoding.encoder import Encoder, load_encoder
from features.encoding.images import read_image
from features.encoding.text import text_tower_of
from features.encoding.view_families import positions_of
from features.errors import InputError
from features.image_store.store import ImageStore
from features.lookup import find
from features.runtime.devices import pick_device
from features.settings import Settings, parse
from features.text.classes import encode_classes
from features.text.text_tower import TextTower
from pipeline.config.params import PATH, Params, load
from pipeline.generators.base import Generator
from pipeline.methods.base import Classifier, FitData, Method
from pipeline.metrics import accuracy as metrics
from pipeline.steps.evaluate import score
from pipeline.steps.select import run_offsets
from pipeline.steps.synthesize import sample
from pipeline.steps.validate import validate_seed
from pipeline.training.data import ClassSet, LabelledFeatures, check_usable
from pipeline.training.folds import Fold
from pipeline.training.seeds import stream

PARAMS = Path(__file__).resolve().parent.parent / PATH  # of the repository that this module belongs to
BATCH = 16  # images per pass; the fastest on a CPU
ANY_ENCODER = "default"  # no encoder has this name: `{default: ..., liteclip: ...}` gives its default

AnySettings = TypeVar("AnySettings", bound=Settings)


@dataclass(frozen=True)
class Clip:
    """A frozen CLIP on one device.

    Attributes:
        encoder: the whole CLIP, for images.
        tower: its text tower, for names and prompts.
    """

    encoder: Encoder
    tower: TextTower


def load_clip(model: str = "local-dir:assets/liteclip", pretrained: str | None = None, device: str = "auto") -> Clip:
    """Load any CLIP that open_clip supports; the default is LiteCLIP, the small stand-in of this project.

    Raises:
        InputError: an unknown model, one whose text tower cannot learn prompts, or weights that are neither on disk nor
            can be downloaded.
    """
    spec = EncoderSpec(model=model, pretrained=pretrained)
    encoder = load_encoder(model.rpartition("/")[2], spec, pick_device(device))
    return Clip(encoder, text_tower_of(encoder, spec).to(encoder.device))


def class_set(
    clip: Clip, seen: Sequence[str], unseen: Sequence[str] = (), templates: Sequence[str] = ("a photo of a {}.",)
) -> ClassSet:
    """Return classes by name, the seen ones first: label i is `[*seen, *unseen][i]`."""
    names = (*seen, *unseen)
    texts = encode_classes(names, templates, clip.tower)
    return ClassSet(
        names=names,
        seen=torch.arange(len(names)) < len(seen),
        text_features=torch.from_numpy(texts.zero_shot_weights()),
        text_norms=torch.from_numpy(texts.text_norms()),
        tokens=torch.from_numpy(texts.tokens),
        logit_scale=texts.logit_scale,
    ).to(clip.encoder.device)


def image_features(clip: Clip, paths: Sequence[Path]) -> Tensor:
    """Return centre-crop features (N, D) of image files, float32 and not normalized.

    Raises:
        UnreadableImageError: a file is not an image, or is truncated.
    """
    crops = np.stack([np.asarray(centre_crop(read_image(path), clip.encoder.preprocess)) for path in paths])
    batches = torch.split(torch.from_numpy(crops), BATCH)
    return torch.cat([clip.encoder.encode_crops(batch) for batch in batches])


def load_store(path: Path, split: Split, view_family: str | None = None) -> LabelledFeatures:
    """Return one split of a Zarr store of image features, with its views; labels are the data set's class ids.

    Images that could not be read are left out. `view_family` names the family of the views; None is the first one.

    Raises:
        InputError: no such store, split or family, or a damaged store.
    """
    store = ImageStore.open(Path(path))
    rows = store.load(split)
    crops = positions_of(view_family, store.meta.view_families, rows.features.shape[1], str(path))
    features = rows.features[rows.valid][:, crops].astype(np.float32)
    labels = rows.labels[rows.valid].astype(np.int64)
    return LabelledFeatures(torch.from_numpy(features), torch.from_numpy(labels))


def labelled(features: Tensor, labels: Sequence[int]) -> LabelledFeatures:
    """Return features (N, D) with labels, which are positions in a `ClassSet`."""
    return LabelledFeatures(features[:, None], torch.tensor(labels, dtype=torch.int64, device=features.device))


def synthesize(
    generator: str,
    train: LabelledFeatures,
    classes: ClassSet,
    tower: TextTower,
    *,
    per_class: int = 64,
    seed: int = 1,
    dataset: str | None = None,
    **settings: object,
) -> LabelledFeatures:
    """Train a generator on images of seen classes and sample features of the unseen ones.

    Args:
        generator: name of a file in `pipeline/generators`.
        train: (N, K, D) features of seen classes.
        classes: the classes that labels are positions in.
        tower: the frozen text tower. Settings that params.yaml makes depend on the encoder take its value.
        per_class: samples of each unseen class.
        seed: of the training and of the samples.
        dataset: name of the data set, for settings that params.yaml makes depend on it.
        settings: override those of params.yaml.

    Returns:
        (M, 1, D) unit features of the unseen classes.

    Raises:
        InputError: an unknown generator or setting.
    """
    kind = find(pipeline.generators, generator, Generator)
    chosen = _settings(kind, "generators", generator, settings, tower=tower, dataset=dataset)
    fitted = chosen.fit(train, classes, tower, stream(seed, "train_generator"), lambda _: None)

    ids = classes.unseen_ids.repeat_interleave(per_class)
    samples = torch.from_numpy(sample(fitted, ids, classes, tower, stream(seed, "synthesize"))).float()
    return LabelledFeatures(samples[:, None].to(ids.device), ids)


def fit(
    method: str,
    train: LabelledFeatures,
    classes: ClassSet,
    *,
    synthetic: LabelledFeatures | None = None,
    validation: LabelledFeatures | None = None,
    tower: TextTower | None = None,
    seed: int = 1,
    dataset: str | None = None,
    **settings: object,
) -> Classifier:
    """Fit a method with the settings that stage `fit` would take.

    Args:
        method: name of a file in `pipeline/methods`.
        train: (N, K, D) features of seen classes.
        classes: the classes that labels are positions in.
        synthetic: (M, 1, D) features of unseen classes.
        validation: (V, 1, D) features of seen classes, on which a method selects a setting; none by default.
        tower: the frozen text tower, for a method that needs one. Settings that params.yaml makes depend on the encoder
            take its value: CoOp's learning rate is 0.03 for LiteCLIP and 0.002 for other encoders.
        seed: of everything random.
        dataset: name of the data set, for settings that params.yaml makes depend on it.
        settings: override those of params.yaml.

    Raises:
        InputError: an unknown method or setting, features that do not fit together, or no `tower` for a method that
            needs it.
    """
    kind = find(pipeline.methods, method, Method)
    chosen = _settings(kind, "methods", method, settings, tower=tower, dataset=dataset)
    held_out = validation or LabelledFeatures(train.features[:0, :1], train.labels[:0])
    check_usable(classes, train=train, validation=held_out, synthetic=synthetic)

    rng = stream(seed, "finetune")  # the label of stage `fit`; part of the seed
    fitted = chosen.fit(FitData(train, classes, synthetic=synthetic, validation=held_out, tower=tower, rng=rng))
    return fitted if tower is None else fitted.with_text_tower(tower)


def choose_offset(
    method: str,
    classifier: Classifier,
    train: LabelledFeatures,
    validation: LabelledFeatures,
    classes: ClassSet,
    *,
    generator: str | None = None,
    per_class: int = 64,
    tower: TextTower | None = None,
    seed: int = 1,
    dataset: str | None = None,
    **settings: object,
) -> float:
    """Return the number to subtract from logits of seen classes, so that seen and unseen classes are in balance.

    The method is fitted twice more, each time without the images of one half of the seen classes
    (`pipeline.metrics.offset`). `accuracy` and your own code apply the number.

    Args:
        method: name of the method.
        classifier: what `fit` returned.
        train: (N, K, D) features of seen classes that it was fitted on.
        validation: (V, 1, D) other features of the seen classes.
        classes: the classes that labels are positions in.
        generator: name of the generator whose features it was fitted with.
        per_class: synthetic features per class, as in `synthesize`.
        tower: the frozen text tower, for a method or a generator that needs one.
        seed: the seed of `fit`.
        dataset: name of the data set, for settings that params.yaml makes depend on it.
        settings: override the method's settings in params.yaml; pass those of `fit`.

    Raises:
        InputError: the offset cannot be known, with the reason: fewer than four seen classes, no validation images, a
            fit that failed, or a method that is not fitted to images.
    """
    chosen = _settings(
        find(pipeline.methods, method, Method), "methods", method, settings, tower=tower, dataset=dataset
    )
    check_usable(classes, train=train, validation=validation)

    def fold_features(fold: Fold) -> LabelledFeatures | None:
        if generator is None:
            return None
        if tower is None:
            raise InputError(f"the generator {generator!r} needs the text tower: pass `tower`")
        images = fold.images(train)
        return synthesize(generator, images, fold.classes, tower, per_class=per_class, seed=seed, dataset=dataset)

    data = FitData(train, classes, synthetic=None, validation=validation, tower=tower, rng=stream(seed))
    logits = validate_seed(chosen, classifier, data, seed=seed, fold_features=fold_features)
    offsets = run_offsets({seed: logits})
    if offsets.reason is not None:
        raise InputError(f"{method}: no offset: {offsets.reason}")
    return offsets.values[0]


def accuracy(
    classifier: Classifier,
    test: LabelledFeatures,
    candidates: Tensor | None = None,
    *,
    classes: ClassSet | None = None,
    offset: float = 0.0,
) -> float:
    """Return the top-1 accuracy in percent.

    Args:
        classifier: what `fit` returned.
        test: (N, 1, D) features.
        candidates: (M,) the classes to choose from; all by default.
        classes: the classes; needed for an offset.
        offset: number to subtract from the logits of seen classes; see `choose_offset`.

    Raises:
        InputError: a candidate that the classifier cannot score.
    """
    ids = torch.arange(len(classifier.scored)) if candidates is None else candidates.cpu()
    index = {int(class_id): i for i, class_id in enumerate(ids)}
    labels = torch.tensor([index[int(label)] for label in test.labels])
    logits = score(classifier, F.normalize(test.features[:, 0], dim=-1), ids.to(test.labels.device))
    if offset:
        if classes is None:
            raise InputError("an offset is subtracted from seen classes: pass `classes`")
        logits = logits - offset * classes.seen.cpu()[ids]
    return metrics.accuracy(logits, labels)


def _settings(
    base: type[AnySettings],
    kind: Literal["methods", "generators"],
    name: str,
    overrides: Mapping[str, object],
    *,
    tower: TextTower | None,
    dataset: str | None,
) -> AnySettings:
    """Return the settings of a method or generator, as the stages would read them for the encoder of `tower`.

    Warns:
        There is no params.yaml beside the code (an installed package), so the defaults of the file are taken, which are
        those of OpenAI's ViT-B/16.

    Raises:
        InputError: unknown settings, or a params.yaml that is not valid.
    """
    if not PARAMS.exists():
        warnings.warn(
            f"no {PATH} in {PARAMS.parent}: {kind}.{name} takes its default settings, which suit OpenAI's ViT-B/16; "
            "pass those that other encoders need, such as learning_rate",
            stacklevel=3,
        )
        return parse(base, dict(overrides), name)

    params = load(PARAMS)
    grid = params.grid.model_copy(update={"encoder": ANY_ENCODER if tower is None else _encoder_name(tower, params)})
    values, _ = params.model_copy(update={"grid": grid}).block(kind, name, dataset)
    return parse(base, {**values, **overrides}, name)


def _encoder_name(tower: TextTower, params: Params) -> str:
    """Return the name that a tower's encoder has in `encoders` of params.yaml.

    A tower of stage `text_tower` carries this name, one of `load_clip` the last part of the model's name.
    """
    name = tower.config.encoder
    if name in params.encoders:
        return name
    same_model = (key for key, spec in params.encoders.items() if spec.model.rpartition("/")[2] == name)
    return next(same_model, name)
