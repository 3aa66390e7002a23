"""Say when a selection says little: tied runs, no run above chance, an interval that cannot vary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from features.errors import are

if TYPE_CHECKING:
    from pipeline.artifacts.selection import Selection

LISTED = 5  # tied runs in a line


def share_best(samples: NDArray[np.float64], best: int) -> float:
    """Return the percentage of bootstrap samples (S, runs) in which one run is better than each other; ties are not."""
    others = np.delete(samples, best, axis=1)
    if others.shape[1] == 0:
        return 100.0
    return float(100 * (samples[:, best] > others.max(1)).mean())


def doubts(selection: Selection) -> Iterator[str]:
    """Yield one line for each reason not to rely on a selection."""
    selected = selection.candidate(selection.run)
    if selected is None or selected.score is None:
        return

    tied = [one.run for one in selection.runs if one.run != selection.run and one.score == selected.score]
    if tied:
        more = f" and {len(tied) - LISTED} more" if len(tied) > LISTED else ""
        runs = f"{', '.join(tied[:LISTED])}{more} {are(len(tied), 'has', 'have')}"
        yield f"a tie: {runs} the same score, and `{selection.run}` is selected only because it comes first in the grid"
    if selected.score <= selection.chance:
        yield (
            f"no run is above chance ({selection.chance:.1f}): the classifier is of no use for new images. Check the "
            "labels, use more images, or names that say what is seen"
        )
    elif selected.low is not None and selected.low <= selection.chance:
        yield f"the best score may be chance: {selection.chance:.1f} is in its interval; use more validation images"
    if selected.low == selected.high:
        yield (
            "the interval of the best score is a point, because its validation images are too few or all right or all "
            "wrong, so it does not show how certain the score is"
        )
