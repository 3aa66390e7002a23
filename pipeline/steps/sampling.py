"""The few-shot draw: which images of each class are used, decided by the seed alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from features.errors import raise_all


def draw(labels: NDArray[np.integer], classes: Mapping[int, str], shots: int | None, seed: int) -> NDArray[np.int64]:
    """Draw `shots` rows of each class without replacement; all rows when `shots` is None.

    A class's draw depends on (seed, class) alone, so it does not change when other classes are added or left out.

    Args:
        labels: (N,) class of each row.
        classes: class id -> name, of the classes to draw from.
        shots: rows per class.
        seed: of the draw.

    Returns:
        (M,) int64 rows, ascending.

    Raises:
        InputError: classes with fewer rows than `shots`, or with none; all of them.
    """
    rows = {c: np.flatnonzero(labels == c) for c in classes}
    wanted = 1 if shots is None else shots
    few = [f"{classes[c]!r} has {len(found)}" for c, found in rows.items() if len(found) < wanted]
    raise_all(few, f"{wanted} images of every class are needed; set `shots` to at most the smallest number below")
    drawn = [
        found if shots is None else np.random.default_rng([seed, c]).choice(found, shots, replace=False)
        for c, found in rows.items()
    ]
    return np.sort(np.concatenate(drawn)) if drawn else np.empty(0, np.int64)
