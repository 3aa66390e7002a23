"""Compare two stores of image features: their provenance, their rows and their values."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from features.datasets.base import SPLITS
from features.datasets.base import Split as SplitName
from features.image_store.store import ImageStore

CHUNK = 4096  # images compared at a time, because float64 copies take four times the memory


def differences(a: ImageStore, b: ImageStore) -> list[str]:
    """Return one line per difference; none for stores with the same content."""
    meta_a, meta_b = (store.meta.model_dump(mode="json", exclude={"files", "rows"}) for store in (a, b))
    lines = [f"{key}: {meta_a[key]} | {meta_b[key]}" for key in meta_a if meta_a[key] != meta_b[key]]
    for split in SPLITS:
        lines += _split_differences(split, a, b)
    return lines


def _split_differences(name: SplitName, a: ImageStore, b: ImageStore) -> Iterator[str]:
    split_a, split_b = a.load(name), b.load(name)
    shape_a, shape_b = split_a.features.shape, split_b.features.shape
    if shape_a != shape_b:
        yield f"{name}: shapes {shape_a} | {shape_b} (images, views, D); values are not compared"
        return

    for what, left, right in (
        ("labels", split_a.labels, split_b.labels),
        ("valid", split_a.valid, split_b.valid),
    ):
        count = np.count_nonzero(left != right)
        if count:
            yield f"{name}: {what} of {count:,} images differ"

    rows = np.flatnonzero(split_a.valid & split_b.valid)
    if not len(rows):
        return
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    results = [_compare(split_a.features[chunk], split_b.features[chunk]) for chunk in chunks]
    largest, cosines, changed = (np.concatenate(values) for values in zip(*results, strict=True))
    if changed.any():
        yield (
            f"{name}: features of {np.count_nonzero(changed):,} of {len(rows):,} images differ, by at most "
            f"{largest.max():.3g}; cosine at least {cosines.min():.6f}, on average {cosines.mean():.6f}"
        )


def _compare(
    a: NDArray[np.float16], b: NDArray[np.float16]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Compare the features of N images.

    Args:
        a: (N, K, D) features.
        b: (N, K, D) features.

    Returns:
        For each image, over its K views: the largest absolute difference, the smallest cosine, and whether any bit
        differs; each (N,).
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    cosines = np.divide((x * y).sum(-1), norms, out=np.ones_like(norms), where=norms > 0)

    # By bits, so that -0 differs from 0 and a NaN equals itself.
    changed = (a.view(np.uint16) != b.view(np.uint16)).any(axis=(1, 2))
    return np.abs(x - y).max(axis=(1, 2)), np.clip(cosines, -1, 1).min(axis=1), changed
