"""The run to use for new images: `select` writes it, and `predict` and `export` read it."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Annotated

from pydantic import Field

from features.formats.seal import read_sealed_json
from features.runtime.text_table import text_table
from features.settings import Settings, parse
from pipeline.artifacts.scores import Percent
from pipeline.artifacts.selection_doubts import doubts
from pipeline.config.migrations import check_artifact_folder
from pipeline.metrics.accuracy import harmonic_mean

# Bounds of the temperature. At the upper bound, CLIP's logits make all classes equally probable.
LOWEST, HIGHEST = 1e-3, 1e3
CREATE_COMMAND = "shipyard run"


class Predicted(Settings):
    """Accuracies of a run on classes with and without images, each among all classes; means over classes, in percent.

    Attributes:
        seen: measured on validation images.
        unseen: predicted from folds in which seen classes play unseen; None without folds.
    """

    seen: Percent
    unseen: Percent | None = None

    @property
    def harmonic_mean(self) -> float | None:
        """Harmonic mean of the two; None without folds."""
        return harmonic_mean(self.seen, self.unseen)


class Candidate(Settings):
    """What validation images say about a run. `score` and the fields below are None if it cannot be compared.

    Attributes:
        run: name of the run, such as `coop` or `coop+ship`.
        plain: accuracies of its logits as they are.
        balanced: accuracies with its offsets.
        offsets: seed -> number that is subtracted from the logits of seen classes.
        reason: why the run has no offset, or cannot be compared at all.
        score: harmonic mean of `balanced`; without folds the seen accuracy.
        low: lower end of the score's 95 % bootstrap interval.
        high: upper end of this interval.
        temperature: divisor of the balanced logits that calibrates their softmax. If it is at a bound,
            `calibration_warning` explains the consequence.
    """

    run: str
    plain: Predicted | None = None
    balanced: Predicted | None = None
    offsets: dict[Annotated[int, Field(strict=False)], float] = Field(default_factory=dict)  # JSON has text keys
    reason: str | None = None
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
        images: number of validation images of the first seed.
        confidence: percentage of bootstrap samples in which the run is better than each other.
        chance: the score of a run that guesses, in percent.
        runs: all runs that were compared, in the order of the grid.
        reason: why the runs could not be compared, so that `run` is the first of the grid that can score every class.
    """

    dataset: str
    task: str
    run: str
    seed: int
    images: Annotated[int, Field(ge=0)]
    confidence: Percent
    chance: Percent = 0.0
    runs: Annotated[tuple[Candidate, ...], Field(min_length=1, strict=False)]
    reason: str | None = None

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
    if selection.reason is not None:
        return (
            f"{selection.dataset}: run `{selection.run}`, seed {selection.seed}, is used for new images\n"
            f"  runs cannot be compared: {selection.reason}. The first run that scores every class is used, and its\n"
            "  probabilities are not calibrated. `shipyard predict --run RUN` uses another"
        )

    lines = [
        f"{selection.dataset}: run `{selection.run}`, seed {selection.seed}, is selected for new images",
        f"  {selection.images} validation images; the best run in {selection.confidence:.0f} of 100 bootstrap samples",
    ]

    # Without folds there is one accuracy, and no offset.
    has_folds = any(candidate.balanced and candidate.balanced.unseen is not None for candidate in selection.runs)
    if has_folds:
        lines.append("  seen: measured; unseen: predicted from seen classes that play unseen; * with the offset")
        head = ["", "seen", "unseen", "H", "offset", "seen *", "unseen *", "H *", "95 % of samples"]
    else:
        head = ["", "seen", "95 % of samples"]
    compared = [candidate for candidate in selection.runs if candidate.plain]
    rows = [head, *([candidate.run, *_cells(candidate, has_folds)] for candidate in compared)]
    lines += [f"  {line}".rstrip() for line in text_table(rows)]

    # One line for all runs with the same reason.
    reasons: dict[str, list[str]] = {}
    for candidate in selection.runs:
        what = "no offset" if candidate.plain else "not compared"
        if candidate.reason is not None:
            reasons.setdefault(f"{what}: {candidate.reason}", []).append(candidate.run)
    lines += [f"  {', '.join(runs)}: {reason}" for reason, runs in reasons.items()]

    selected = selection.candidate(selection.run)
    if selected and (warning := calibration_warning(selected.run, selected.temperature)):
        lines.append(f"  {warning}")
    lines += [f"  {doubt}" for doubt in doubts(selection)]
    return "\n".join(lines)


def calibration_warning(run: str, temperature: float | None) -> str | None:
    """Return a warning if the temperature of a run is at a bound, else None."""
    if temperature == HIGHEST:
        return (
            f"{run}: on validation images its logits are no better than chance, so all classes get nearly the same "
            "probability; the ranking of the classes is unchanged"
        )
    if temperature == LOWEST:
        return (
            f"{run}: the validation images do not determine its temperature, so its probabilities are nearly 0 or 1; "
            "do not rely on them"
        )
    return None


def _cells(candidate: Candidate, has_folds: bool) -> list[str]:
    """Return the table cells of one run; dashes for what is not known."""
    interval = "–" if candidate.low is None else f"{candidate.low:.1f} to {candidate.high:.1f}"
    if not has_folds:
        return [_accuracies(candidate.plain)[0], interval]
    offset = f"{fmean(candidate.offsets.values()):.2f}" if candidate.offsets else "–"
    return [*_accuracies(candidate.plain), offset, *_accuracies(candidate.balanced), interval]


def _accuracies(predicted: Predicted | None) -> list[str]:
    """Return the cells of seen accuracy, unseen accuracy and H."""
    if predicted is None:
        return ["–"] * 3
    return [_number(predicted.seen), _number(predicted.unseen), _number(predicted.harmonic_mean)]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
