"""Synthetic features of a task, as methods and measures read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from features.errors import InputError
from features.synthetic_store import load_synthetic
from pipeline.training.data import ClassSet, LabelledFeatures


def read_synthetic(folder: Path, seed: int, classes: ClassSet) -> LabelledFeatures:
    """Read one seed's synthetic features (M, 1, D) of the task's unseen classes.

    Raises:
        InputError: the shards name other classes than the task, or their features have another dimension.
    """
    stored = load_synthetic(folder / f"seed={seed}")
    expected_names = [classes.names[i] if i < len(classes) else None for i in stored.class_ids]
    dim = classes.text_features.shape[1]
    if list(stored.class_names) != expected_names or stored.features.shape[1] != dim:
        raise InputError(f"{folder} was synthesized for other classes or another encoder; run `dvc repro synthesize`")

    features = torch.from_numpy(stored.features.astype(np.float32))[:, None]
    return LabelledFeatures(features, torch.from_numpy(np.array(stored.class_ids)))
