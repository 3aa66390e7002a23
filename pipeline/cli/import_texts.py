"""Import of class texts into this project: names, paths, the check against the image features, the next commands."""

from __future__ import annotations

from pathlib import Path

from features.encoding.definition import IMPORTED
from features.errors import InputError, nearest
from features.exchange.import_texts import read_class_texts
from features.image_store.store import ImageStore
from features.index import read_names
from features.text.classes import save_classes
from features.text.tower_file import save_absent_tower
from pipeline.artifacts import paths
from pipeline.config import params


def import_class_texts(
    dataset: str, source: Path, *, classes: Path | None, encoder: str | None, logit_scale: float
) -> str:
    """Write the class texts of a data set, and return a text with the next steps.

    Raises:
        InputError: the encoder is unknown or has a text tower of its own, the data set has no index or no features, or
            text and image features have different dimensions; also every error of `read_class_texts`.
    """
    settings = params.load()
    name = encoder or settings.grid.encoder
    if name not in settings.encoders:
        raise InputError(f"encoder {name!r} is not in `encoders` of {params.PATH}; {nearest(name, settings.encoders)}")
    if settings.encoders[name].model != IMPORTED:
        raise InputError(
            f"encoders.{name}.model is {settings.encoders[name].model!r}, whose text tower encodes class names here; "
            f"define another encoder for imported features, such as {name}_texts: {{model: {IMPORTED}}}"
        )

    of_encoder = paths.EncoderPaths(paths.ROOT / name)
    out = of_encoder.classes(dataset)
    if out.exists() and source.exists() and source.samefile(out):
        raise InputError(f"FILE {source}: the imported texts would replace it; name the file that they came from")
    store = ImageStore.open(of_encoder.features(dataset))
    texts = read_class_texts(
        source,
        classes,
        read_names(paths.names(dataset)),
        logit_scale=logit_scale,
        encoder=name,
        weights_sha256=store.meta.weights_sha256,
    )
    embed_dim = store.load("test").features.shape[-1]
    if texts.text_features.shape[-1] != embed_dim:
        raise InputError(
            f"{source}: text features have {texts.text_features.shape[-1]} dimensions, and the image features of "
            f"{dataset} {embed_dim}: they are not of the same encoder"
        )

    save_classes(texts, out)
    save_absent_tower(of_encoder.text_tower, name)
    return (
        f"{out}: {len(texts.names)} classes, logit scale {logit_scale:g}\n"
        f"next: dvc commit --force text_tower classes@{dataset}   (with grid.encoder: {name}, "
        f"grid.datasets: [{dataset}])\n"
        f"      shipyard run {dataset}"
    )
