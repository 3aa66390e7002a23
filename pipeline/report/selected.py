"""Say in sentences which run is selected for new images, why, and what to do next."""

from __future__ import annotations

from pipeline.artifacts.selection import Selection
from pipeline.artifacts.selection_doubts import doubts


def selection_sentences(selection: Selection) -> list[str]:
    """Return the selected run, the reason, what is doubtful about it, and the next command."""
    lines = [f"Run for new images: {selection.run}, seed {selection.seed}."]
    selected = selection.candidate(selection.run)

    if selection.reason is not None:
        lines.append(f"Runs cannot be compared: {selection.reason}. It is the first one that scores every class.")
    elif selected is not None and selected.score is not None:
        with_folds = selected.balanced is not None and selected.balanced.unseen is not None
        what = "harmonic mean of seen and predicted unseen accuracy" if with_folds else "accuracy"
        lines.append(
            f"It has the highest {what} on {selection.images} validation images: {selected.score:.1f}, in 95 % of "
            f"bootstrap samples {selected.low:.1f} to {selected.high:.1f}. It is better than each other run in "
            f"{selection.confidence:.0f} of 100 samples."
        )
        lines += [f"{doubt[0].upper()}{doubt[1:]}." for doubt in doubts(selection)]

    if selection.task == selection.dataset:
        lines.append(f"Next: shipyard predict {selection.task} IMAGES, or shipyard serve {selection.task}.")
    return lines
