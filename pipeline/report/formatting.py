"""Format numbers and sentences of the report, the same way for `summary.md`, the terminal and the page."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from pipeline.artifacts.scores import HARMONIC_MEAN
from pipeline.config.params import Params
from pipeline.report.summary import EvaluatedSplit, Gain, Row, Table, Value

DASH = "–"
PARTIAL = "*"  # marks every number of a data set with missing images
NOT_PHOTOGRAPHS = MappingProxyType({"twemoji": "emoji drawings, not photographs"})  # reader -> what its images are


def number(value: float) -> str:
    """Return a percentage with two decimals, as the papers print it."""
    return f"{value:.2f}"


def signed(value: float) -> str:
    """Return percentage points with their sign: +1.20, -0.30, and 0.00 without a sign."""
    text = f"{value:+.2f}"
    return text[1:] if float(text) == 0 else text


def plus_minus(value: Value, footnotes: Sequence[str] = ()) -> str:
    """Return `66.50 ± 0.41`, `66.50` for one seed, `66.50*` for partial data, or `– [1]`, a dash with footnote 1."""
    if value.mean is None:
        return f"{DASH} [{footnotes.index(value.reason) + 1}]" if value.reason in footnotes else DASH

    std = "" if value.std is None else f" ± {number(value.std)}"
    return f"{number(value.mean)}{std}{PARTIAL if value.partial else ''}"


def over_seeds(seeds: Sequence[int]) -> str:
    """Return what the numbers of a table are: of one seed, or the mean over several."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    return f"seeds {', '.join(map(str, seeds))}: mean ± sample standard deviation"


def heading(column: str) -> str:
    """Return the heading of a column: the name of the evaluation split, or H."""
    return "H" if column == HARMONIC_MEAN else column


def footnotes(table: Table) -> list[str]:
    """Return the reasons of a table's dashes without duplicates, in the order of the cells."""
    reasons = [row.values[column].reason for row in table.scored for column in table.columns]
    return list(dict.fromkeys(reason for reason in reasons if reason))


def unscored_reasons(table: Table) -> list[str]:
    """Return a sentence for each reason why runs are not in the table."""
    by_reason: dict[str, list[str]] = {}
    for row in table.unscored:
        reason = next(reason for value in row.values.values() if (reason := value.reason))
        by_reason.setdefault(reason, []).append(row.run)
    return [f"Not in the table: {', '.join(runs)}, because {reason}." for reason, runs in by_reason.items()]


def caption(table: Table) -> list[str]:
    """Return the caption of a table, one sentence per item."""
    lines = [_evaluated(table)]
    if table.missing:
        missing = " and ".join(f"{name} lacks {count:,} images" for name, count in table.missing.items())
        lines.append(f"{PARTIAL} The copy is partial ({missing}), so these numbers are not results on the data set.")

    if table.shots:
        lines.append(f"Training images per seen class: {table.shots}.")
    else:
        lines.append("All training images of seen classes are used.")

    if table.unreadable:
        counts = ", ".join(f"{count} of {name}" for name, count in table.unreadable.items())
        lines.append(f"Images left out because they could not be read (extract.on_bad_image: skip): {counts}.")

    if table.selected_on_test:
        lines.append(
            "Methods with a search selected their settings on these test images (validation_from: test), as their "
            "authors' code does for ImageNet: their numbers are too high for new images."
        )

    if table.at_edge:
        ended = "; ".join(f"{run}: {', '.join(settings)}" for run, settings in table.at_edge.items())
        lines.append(f"Selected on validation images at an end of their range, so a wider one may be better: {ended}.")

    if table.harmonic:
        what = "harmonic mean of the means of" if table.averaged else "harmonic mean of"
        lines.append(f"H: {what} {' and '.join(table.harmonic)}, computed per seed, then averaged.")

    lines += unscored_reasons(table)
    if table.published:
        published = table.published
        shots = f"{published.shots} shots" if published.shots else "all training images"
        line = f"Published: {published.source}; {published.encoder}, {shots}"
        lines.append(f"{line}; its H is computed from the averaged accuracies." if table.harmonic else f"{line}.")
    else:
        lines.append("Published: none for this data set, protocol and number of shots.")

    return lines


def _evaluated(table: Table) -> str:
    """Return what the numbers of a table are of."""
    if table.averaged:
        return f"Mean over {len(table.averaged)} data sets with equal weight: {', '.join(table.averaged)}."
    if not table.eval_splits:
        return "Nothing was evaluated, because no class has a test image: add a second image to some classes."
    return f"Top-1 accuracy in percent; {'; '.join(_images(split) for split in table.eval_splits)}."


def _images(split: EvaluatedSplit) -> str:
    """Return the number of images and classes of an evaluation split, and how it averages."""
    average = ", averaged over classes" if split.average == "per_class" else ""
    return f"{split.name}: {split.n} test images, {split.classes} candidate classes{average}"


def notes(params: Params, tables: Sequence[Table]) -> tuple[str, ...]:
    """Return what a reader must know before the numbers: stand-ins, partial copies, other encoders than the papers'."""
    name = params.grid.encoder
    lines = []

    if params.encoder.model.startswith("local-dir:assets/"):
        lines.append(
            f"{name} is a small stand-in encoder that ships with this project, so that everything runs without a "
            "download: its numbers show that the pipeline works, not how good these methods are with CLIP."
        )

    for dataset in params.grid.datasets:
        images = NOT_PHOTOGRAPHS.get(str(params.data.sets[dataset].get("reader")))
        if images:
            lines.append(f"{dataset} is a stand-in data set: its images are {images}.")

    missing = {dataset: count for table in tables for dataset, count in table.missing.items()}
    for dataset, count in missing.items():
        lines.append(
            f"{dataset} is a partial copy that lacks {count:,} images: every number from it is marked {PARTIAL}."
        )

    tasks = dict.fromkeys(t.task for t in tables if t.selected_on_test)
    lines += [f"{task}: settings were selected on test images (validation_from: test)." for task in tasks]

    encoders = {t.published.encoder for t in tables if t.published and not t.published.same_encoder}
    for encoder in sorted(encoders):
        lines.append(
            f"Published values were computed with another encoder, {encoder}; ours with {name}: differences mainly "
            "reflect the encoders, not the methods."
        )

    unchecked = {
        t.published.encoder for t in tables if t.published and t.published.same_encoder and not t.published.checked
    }
    for encoder in sorted(unchecked):
        lines.append(
            f"{name} counts as {encoder} because params.yaml says so: its weights are not among the known ones "
            "(assets/published/weights.csv), so this was not checked."
        )

    return tuple(lines)


def gain_sentences(table: Table) -> list[str]:
    """Return the effect of each generator: `coop+ship vs. coop: raises new by 9.80 points (in 3 of 3 seeds).`."""
    mark = f" {PARTIAL}" if table.missing else ""
    return [f"{row.run} vs. {row.method}: {', '.join(_changes(table, row))}.{mark}" for row in table.rows if row.gains]


def _changes(table: Table, row: Row) -> list[str]:
    """Return the change of each column, then the columns that only the run with the generator has."""
    changes = [_change(heading(column), row.gains[column]) for column in table.columns if column in row.gains]

    added = [heading(c) for c in table.columns if c not in row.gains and row.values[c].mean is not None]
    if added:
        changes.append(f"adds {' and '.join(added)}, which {row.method} alone cannot score")
    return changes


def _change(name: str, gain: Gain) -> str:
    text = number(abs(gain.mean))
    if float(text) == 0:
        return f"does not change {name}"

    verb, seeds = ("raises", gain.raised) if gain.mean > 0 else ("lowers", gain.lowered)
    return f"{verb} {name} by {text} points (in {seeds} of {gain.seeds} seeds)"
