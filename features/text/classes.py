"""Class names as token ids and text features, kept in one small HDF5 file."""

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
from features.text.prompts import class_tokens, format_prompts
from features.text.text_tower import TextTower


@dataclass(frozen=True)
class ClassTexts:
    """The texts of C classes, tokenized and encoded.

    Attributes:
        names: C class names.
        templates: K templates such as "a photo of a {}.".
        tokens: (C, T) int64, `[SOS] name . [EOT]` and zeros.
        text_features: (K, C, D) float32, one for each template, not normalized.
        logit_scale, encoder, weights_sha256: of the encoder (`features.text.text_tower.TowerConfig`).
        missing: number of images that the data set has and this copy lacks; passed on so that the report can show it.
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
        """Return (C, D) unit rows: normalized per template, averaged, normalized again (CLIP's prompt ensemble)."""
        mean = F.normalize(torch.from_numpy(self.text_features), dim=-1).mean(0)
        return F.normalize(mean, dim=-1).numpy()

    def text_norms(self) -> NDArray[np.float32]:
        """Return the length (C,) of each class's text feature as the tower gives it, the mean over templates."""
        norms: NDArray[np.float32] = np.linalg.norm(self.text_features.mean(0), axis=-1)
        return norms


def encode_classes(
    names: Sequence[str],
    templates: Sequence[str],
    tower: TextTower,
    *,
    descriptions: Mapping[str, str] = MappingProxyType({}),
    missing: int = 0,
) -> ClassTexts:
    """Encode every class name in every template, with its description if it has one; C passes of K short texts.

    Raises:
        InputError: class names are too long, alone or in a template.
    """
    config = tower.config
    tokens = class_tokens(names, context_length=config.context_length, prompt=0, tokenizer=tower.tokenizer)

    by_template = [format_prompts(template, names, descriptions) for template in templates]
    by_class = [text for prompts in zip(*by_template, strict=True) for text in prompts]
    ids = tower.tokenizer.tokenize(by_class, room=config.context_length)

    # One pass per class. Sums may round otherwise in a larger batch, and then a class that is added later would change
    # the features of the others, and everything that was learned from these.
    with torch.inference_mode():
        features = torch.stack([tower.encode(prompts) for prompts in torch.split(ids, len(templates))], dim=1)
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
    """Write class texts to a file, whole or not at all; the same texts give the same bytes."""
    with hdf5.create_file(path) as file:
        file.attrs["names"] = json.dumps(texts.names, ensure_ascii=False)
        file.attrs["templates"] = json.dumps(texts.templates, ensure_ascii=False)
        file.attrs["logit_scale"] = texts.logit_scale
        file.attrs["encoder"] = texts.encoder
        file.attrs["weights_sha256"] = texts.weights_sha256
        file.attrs["missing"] = texts.missing
        file["tokens"] = texts.tokens
        file["text_features"] = texts.text_features


def load_classes(path: Path) -> ClassTexts:
    """Read a file that `save_classes` wrote.

    Raises:
        InputError: the file does not exist or was not written by `save_classes`.
    """
    with hdf5.open_sealed(path, "create class texts with `dvc repro classes`, or fetch them with `dvc pull`") as file:
        texts = ClassTexts(
            names=hdf5.text_list_attribute(file, "names"),
            templates=hdf5.text_list_attribute(file, "templates"),
            tokens=hdf5.read_array(file, "tokens"),
            text_features=hdf5.read_array(file, "text_features"),
            logit_scale=float(file.attrs["logit_scale"]),
            encoder=hdf5.text_attribute(file, "encoder"),
            weights_sha256=hdf5.text_attribute(file, "weights_sha256"),
            missing=int(file.attrs["missing"]),
        )
        k, c = len(texts.templates), len(texts.names)
        shape, tokens = texts.text_features.shape, texts.tokens
        if shape[:2] != (k, c) or tokens.ndim != 2 or len(tokens) != c:
            raise InputError(
                f"{path}: tokens {tokens.shape} and text features {shape} do not match {c} names and {k} templates"
            )
        return texts
