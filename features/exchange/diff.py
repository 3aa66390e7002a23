"""Two stores side by side: what made them, which rows they have, and how far their values are apart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from features.datasets.base import SPLITS
from features.datasets.base import Split as SplitName
from features.image_store.store import ImageStore

ROWS = 4096  # compared at a time, in float64


def differences(a: ImageStore, b: ImageStore) -> list[str]:
    """What differs, a line each; none for stores with the same content."""
    facts_a, facts_b = (store.meta.model_dump(mode="json", exclude={"files", "rows"}) for store in (a, b))
    lines = [f"{key}: {facts_a[key]} | {facts_b[key]}" for key in facts_a if facts_a[key] != facts_b[key]]
    return [*lines, *(line for split in SPLITS for line in _of_split(split, a, b))]


def _of_split(name: SplitName, a: ImageStore, b: ImageStore) -> Iterator[str]:
    one, two = a.load(name), b.load(name)
    if one.features.shape != two.features.shape:
        yield f"{name}: {one.features.shape} | {two.features.shape} (images, crops, numbers); values are not compared"
        return
    for what, left, right in (("labels", one.labels, two.labels), ("valid", one.valid, two.valid)):
        if wrong := np.count_nonzero(left != right):
            yield f"{name}: {what} of {wrong:,} images differ"
    both = np.flatnonzero(one.valid & two.valid)
    parts = [
        _apart(one.features[both[start : start + ROWS]], two.features[both[start : start + ROWS]])
        for start in range(0, len(both), ROWS)
    ]
    if not parts:
        return
    largest, cosines, changed = (np.concatenate(values) for values in zip(*parts, strict=True))
    if changed.any():
        yield (
            f"{name}: features of {np.count_nonzero(changed):,} of {len(both):,} images differ, by at most "
            f"{largest.max():.3g}; cosine at least {cosines.min():.6f}, on average {cosines.mean():.6f}"
        )


def _apart(
    a: NDArray[np.float16], b: NDArray[np.float16]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """For each of n images, over its crops: the largest difference, the least cosine, whether any bit differs."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    cosines = np.divide((x * y).sum(-1), lengths, out=np.ones_like(lengths), where=lengths > 0)
    changed = (a.view(np.uint16) != b.view(np.uint16)).any(axis=(1, 2))
    return np.abs(x - y).max(axis=(1, 2)), np.clip(cosines, -1, 1).min(axis=1), changed
