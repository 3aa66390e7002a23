"""What the text tower says of a data set's classes, in one small HDF5 file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from features.errors import InputError
from features.formats import hdf5
from features.text.prompts import class_tokens, format_prompts, tokenize
from features.text.text_tower import TextTower

# The longest learned context that class names must leave room for: CoOp's M = 16, L = 8 in SHIP's Table 6.
MAX_CONTEXT_VECTORS = 16


@dataclass(frozen=True)
class ClassTexts:
    """C class names as CLIP reads them.

    Attributes:
        names: C class names. templates: K templates such as "a photo of a {}.".
        tokens: (C, T) int64, `[SOS] name . [EOS]` and zeros.
        text_features: (K, C, D) float32, one a template, as the tower gave them, not normalised.
        logit_scale, encoder, weights_sha256: of the encoder (`features.text.text_tower.TowerConfig`).
        missing: images that the data set has and this copy lacks; it goes along so that the report can say so.
    """

    names: tuple[str, ...]
    templates: tuple[str, ...]
    tokens: NDArray[np.int64]
    text_features: NDArray[np.float32]
    logit_scale: float
    encoder: str
    weights_sha256: str
    missing: int = 0

    def zero_shot_weights(self) -> NDArray[np.float32]:
        """(C, D) unit rows: normalised per template, averaged, normalised again (CLIP's prompt ensemble)."""
        mean = F.normalize(torch.from_numpy(self.text_features), dim=-1).mean(0)
        return F.normalize(mean, dim=-1).numpy()


def encode_classes(
    names: Sequence[str],
    templates: Sequence[str],
    tower: TextTower,
    *,
    descriptions: Mapping[str, str] = MappingProxyType({}),
    missing: int = 0,
) -> ClassTexts:
    """Read every class name in every template, with its description if it has one; C passes of K short texts.

    A class's texts go through the tower by themselves: in a larger batch sums may round otherwise, and a class that is
    added later would change the others' features, and with them all that was learned from these.

    Raises:
        InputError: class names that leave no room for a learned context, or templates that are too long with them.
    """
    config = tower.config
    tokens = class_tokens(names, context_length=config.context_length, prompt=MAX_CONTEXT_VECTORS)
    of_each = zip(*(format_prompts(template, names, descriptions) for template in templates), strict=True)
    texts = tokenize([text for of_class in of_each for text in of_class], room=config.context_length)
    with torch.inference_mode():
        features = torch.stack([tower.encode(of_class) for of_class in torch.split(texts, len(templates))], dim=1)
    return ClassTexts(
        names=tuple(names),
        templates=tuple(templates),
        tokens=tokens.numpy(),
        text_features=features.cpu().numpy(),
        logit_scale=config.logit_scale,
        encoder=config.encoder,
        weights_sha256=config.weights_sha256,
        missing=missing,
    )


def save_classes(texts: ClassTexts, path: Path) -> None:
    """Write the file, whole or not at all; the same texts give the same bytes."""
    with hdf5.created(path) as file:
        file.attrs["names"] = json.dumps(texts.names, ensure_ascii=False)
        file.attrs["templates"] = json.dumps(texts.templates, ensure_ascii=False)
        file.attrs["logit_scale"] = texts.logit_scale
        file.attrs["encoder"] = texts.encoder
        file.attrs["weights_sha256"] = texts.weights_sha256
        file.attrs["missing"] = texts.missing
        file["tokens"] = texts.tokens
        file["text_features"] = texts.text_features


def load_classes(path: Path) -> ClassTexts:
    """Read what `save_classes` wrote.

    Raises:
        InputError: there is no such file, or it is not one of ours.
    """
    with hdf5.opened(path, "`dvc repro classes` makes class texts, `dvc pull` brings them") as file:
        texts = ClassTexts(
            names=hdf5.texts(file, "names"),
            templates=hdf5.texts(file, "templates"),
            tokens=hdf5.array(file, "tokens"),
            text_features=hdf5.array(file, "text_features"),
            logit_scale=float(file.attrs["logit_scale"]),
            encoder=hdf5.text(file, "encoder"),
            weights_sha256=hdf5.text(file, "weights_sha256"),
            missing=int(file.attrs["missing"]),
        )
        shape, tokens = texts.text_features.shape, texts.tokens
        if shape[:2] != (len(texts.templates), len(texts.names)) or tokens.ndim != 2 or len(tokens) != len(texts.names):
            raise InputError(f"{path}: tokens {tokens.shape}, text features {shape} do not fit the names and templates")
        return texts
