"""The run to use for new images: `select` writes it, and `predict` and `export` read it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from features.formats.seal import read_sealed_json
from features.runtime.text_table import text_table
from features.settings import Settings, parse
from pipeline.artifacts.scores import Count, Percent
from pipeline.artifacts.selection_doubts import doubts
from pipeline.config.migrations import check_artifact_folder

# Bounds of the temperature. At the upper bound, CLIP's logits make all classes equally probable.
LOWEST, HIGHEST = 1e-3, 1e3
CREATE_COMMAND = "dvc repro select"


class Candidate(Settings):
    """Result of a run on the validation proxy. `score` and the fields below are None if it cannot score every class.

    Attributes:
        run: name of the run, such as `coop` or `coop+ship`.
        accuracies: accuracies on `seen` classes and, if the proxy has any, on `unseen` classes, in percent: means over
            classes, then over seeds.
        score: harmonic mean of the two, computed per seed and averaged; or the only accuracy.
        low: lower end of the score's 95 % bootstrap interval.
        high: upper end of this interval.
        temperature: divisor of the run's logits that calibrates their softmax on the validation proxy. If it is at a
            bound, `calibration_warning` explains the consequence.
    """

    run: str
    accuracies: dict[str, Percent]
    score: Percent | None = None
    low: Percent | None = None
    high: Percent | None = None
    temperature: Annotated[float, Field(ge=LOWEST, le=HIGHEST)] | None = None


class Selection(Settings):
    """The run to use for new images, with the comparison that selected it.

    Attributes:
        dataset: data set of the task.
        task: task that the run was selected for.
        run: name of the selected run.
        seed: seed of the selected run.
        images: number of validation images behind each accuracy, by the keys of `Candidate.accuracies`.
        confidence: percentage of bootstrap samples in which the run is better than each other.
        chance: the score of a run that guesses, in percent.
        runs: all runs that were compared, in the order of the grid.
    """

    dataset: str
    task: str
    run: str
    seed: int
    images: dict[str, Count]
    confidence: Percent
    chance: Percent = 0.0
    runs: Annotated[tuple[Candidate, ...], Field(min_length=1, strict=False)]

    def candidate(self, run: str) -> Candidate | None:
        """Return the result of a run, or None if it was not compared."""
        return next((candidate for candidate in self.runs if candidate.run == run), None)


def read_selection(path: Path) -> Selection:
    """Read the file that `select` wrote.

    Raises:
        InputError: the file does not exist, is damaged, or only exists in the folder of an older version.
    """
    check_artifact_folder(path, CREATE_COMMAND)
    return parse(Selection, read_sealed_json(path, f"run `{CREATE_COMMAND}` to create it"), str(path))


def selection_text(selection: Selection) -> str:
    """Return the selected run, how reliable the selection is, and a table of all runs as text."""
    images = " and ".join(f"{count} {name}" for name, count in selection.images.items())
    lines = [
        f"{selection.dataset}: run `{selection.run}`, seed {selection.seed}, is selected for new images",
        f"  validation images: {images}; the best run in {selection.confidence:.0f} of 100 bootstrap samples",
    ]

    # A table with one row per run: its accuracies, H if there are two of them, and the interval of the score.
    harmonic = ["H"] if len(selection.images) > 1 else []
    rows = [["", *selection.images, *harmonic, "95 % of samples"]]
    rows += [[candidate.run, *_cells(candidate, selection)] for candidate in selection.runs]
    lines += [f"  {line}".rstrip() for line in text_table(rows)]

    for candidate in selection.runs:
        warning = calibration_warning(candidate.run, candidate.temperature)
        if warning:
            lines.append(f"  {warning}")

    lines += [f"  {doubt}" for doubt in doubts(selection)]
    return "\n".join(lines)


def calibration_warning(run: str, temperature: float | None) -> str | None:
    """Return a warning if the temperature of a run is at a bound, else None."""
    if temperature == HIGHEST:
        return (
            f"{run}: on the validation proxy its logits are no better than chance, so all classes get nearly the same "
            "probability; the ranking of the classes is unchanged"
        )
    if temperature == LOWEST:
        return (
            f"{run}: the validation images do not determine its temperature, so its probabilities are nearly 0 or 1; "
            "do not rely on them"
        )
    return None


def _cells(candidate: Candidate, selection: Selection) -> list[str]:
    """Return the table cells of one run; dashes if it cannot score every class."""
    harmonic = len(selection.images) > 1

    if candidate.score is None:
        return ["–"] * (len(selection.images) + harmonic + 1)

    scores = [candidate.accuracies[name] for name in selection.images]
    if harmonic:
        scores.append(candidate.score)
    return [*(f"{score:.1f}" for score in scores), f"{candidate.low:.1f} to {candidate.high:.1f}"]
