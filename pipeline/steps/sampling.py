"""Few-shot sampling: draw the images of each class, determined by the seed alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from features.errors import raise_all


def draw(labels: NDArray[np.integer], classes: Mapping[int, str], shots: int | None, seed: int) -> NDArray[np.int64]:
    """Draw `shots` rows of each class without replacement, or all rows if `shots` is None.

    The draw of a class depends on the seed and the class id alone. It does not change when other classes are added or
    left out.

    Args:
        labels: (N,) class of each row.
        classes: class id -> name of the classes to draw from.
        shots: rows per class.
        seed: seed of the draw.

    Returns:
        (M,) int64 rows in ascending order.

    Raises:
        InputError: classes have fewer rows than `shots`, or none. The error lists all of them.
    """
    rows = {class_id: np.flatnonzero(labels == class_id) for class_id in classes}

    minimum = 1 if shots is None else shots
    too_few = [f"{classes[c]!r} has {len(candidates)}" for c, candidates in rows.items() if len(candidates) < minimum]
    raise_all(too_few, f"{minimum} images of every class are needed; set `shots` to at most the smallest number below")

    drawn = []
    for class_id, candidates in rows.items():
        if shots is None:
            drawn.append(candidates)
        else:
            rng = np.random.default_rng([seed, class_id])
            drawn.append(rng.choice(candidates, shots, replace=False))

    return np.sort(np.concatenate(drawn)) if drawn else np.empty(0, np.int64)
