"""Which run to use for new images: what stage `select` writes, and `predict` and `export` read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from features.formats.untrusted import read_json
from features.settings import Settings, parse
from pipeline.artifacts.scores import Count, Percent

LOWEST, HIGHEST = 1e-3, 1e3  # of a temperature; at the highest, CLIP's logits make all classes equally probable


class Candidate(Settings):
    """What a run got in the rehearsal; `score` and all below are None where it cannot score every class.

    Attributes:
        run: `coop`, or `coop+ship`.
        accuracies: `seen` and, if some classes played unseen ones, `unseen`: means over classes, then over seeds.
        score: their harmonic mean, taken per seed, or the one accuracy that there is. low, high: 95 % of its bootstrap.
        temperature: what the run's logits are to be divided by, so that their softmax is calibrated on the rehearsal;
            at a bound, `calibration_warning` says what that means.
    """

    run: str
    accuracies: dict[str, Percent]
    score: Percent | None = None
    low: Percent | None = None
    high: Percent | None = None
    temperature: Annotated[float, Field(ge=LOWEST, le=HIGHEST)] | None = None


class Selection(Settings):
    """The run, and the seed of it, to use.

    Attributes:
        images: how many validation images judged what, by the names of `Candidate.accuracies`.
        confidence: in how many of 100 bootstrap samples the run is the best.
        runs: all that were compared, in the order of the grid.
    """

    dataset: str
    task: str
    run: str
    seed: int
    images: dict[str, Count]
    confidence: Percent
    runs: Annotated[tuple[Candidate, ...], Field(min_length=1, strict=False)]

    def of(self, run: str) -> Candidate | None:
        """What a run got; None if it was not compared."""
        return next((found for found in self.runs if found.run == run), None)


def read_selection(path: Path) -> Selection:
    """Read what `select` wrote.

    Raises:
        InputError: it is not there, or damaged.
    """
    return parse(Selection, read_json(path, "`dvc repro select` makes it"), str(path))


def selection_text(choice: Selection) -> str:
    """What a person wants to know of it: which run, how sure that is, and what every other one got."""
    on = " and ".join(f"{count} {name}" for name, count in choice.images.items())
    columns = [*choice.images, *(["H"] if len(choice.images) > 1 else []), "95 % of samples"]
    rows = [["", *columns], *([one.run, *_cells(one, choice)] for one in choice.runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join(
        [
            f"{choice.dataset}: for new images `{choice.run}`, seed {choice.seed}, is chosen by a rehearsal",
            f"  validation photographs: {on}; the best in {choice.confidence:.0f} of 100 bootstrap samples",
            *(f"  {line}".rstrip() for line in table),
            *(f"  {said}" for one in choice.runs if (said := calibration_warning(one.run, one.temperature))),
        ]
    )


def calibration_warning(run: str, temperature: float | None) -> str | None:
    """What to say of a run whose temperature ended at a bound; None: it did not."""
    if temperature == HIGHEST:
        return (
            f"{run}: of the rehearsal's photographs its logits said no more than chance does, so its probabilities are "
            "nearly the same for all classes; their order is as it was"
        )
    if temperature == LOWEST:
        return (
            f"{run}: the rehearsal's photographs could not show how sure it may be, so its probabilities are nearly 0 "
            "or 1; do not rely on them"
        )
    return None


def _cells(found: Candidate, choice: Selection) -> list[str]:
    if found.score is None:
        return ["–"] * (len(choice.images) + (len(choice.images) > 1) + 1)
    scores = [found.accuracies[name] for name in choice.images] + [found.score] * (len(choice.images) > 1)
    return [*(f"{value:.1f}" for value in scores), f"{found.low:.1f} to {found.high:.1f}"]
