"""Numbers and sentences as the table, the terminal and the page print them: one wording for all three."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from pipeline.artifacts.scores import HARMONIC_MEAN
from pipeline.config.params import Params
from pipeline.report.summary import Gain, Row, Table, Value

DASH = "–"
PARTIAL = "*"  # beside every number of a data set of which images are missing
DRAWN = MappingProxyType({"twemoji": "emoji drawings, not photographs"})  # readers whose pictures are no photographs


def number(value: float) -> str:
    """Percent with two decimals, as the papers print it."""
    return f"{value:.2f}"


def signed(value: float) -> str:
    """Points with their sign: +1.20, -0.30, and 0.00 without one."""
    text = f"{value:+.2f}"
    return text[1:] if float(text) == 0 else text


def plus_minus(value: Value, footnotes: Sequence[str] = ()) -> str:
    """`66.50 ± 0.41`, `66.50` for a single seed, `66.50*` of partial data, and `– [1]`, a dash with footnote 1."""
    if value.mean is None:
        return f"{DASH} [{footnotes.index(value.reason) + 1}]" if value.reason in footnotes else DASH
    mark = PARTIAL if value.partial else ""
    return number(value.mean) + ("" if value.std is None else f" ± {number(value.std)}") + mark


def heading(column: str) -> str:
    """What a column is called: the eval_split's name, and H."""
    return "H" if column == HARMONIC_MEAN else column


def footnotes(table: Table) -> list[str]:
    """The reasons of a table's dashes, each once, in the order in which they are met."""
    return list(dict.fromkeys(why for row in table.rows for c in table.columns if (why := row.values[c].reason)))


def caption(table: Table) -> list[str]:
    """What the numbers of a table are, a sentence each."""
    judged = [
        f"{j.name}: {j.n} test images among {j.classes} classes"
        f"{', mean of the classes’ own accuracies' if j.average == 'per_class' else ''}"
        for j in table.judged
    ]
    lines = ["Top-1 accuracy in percent; " + "; ".join(judged) + "."]
    if table.averaged:
        lines = [f"Mean over {len(table.averaged)} data sets, each counting the same: {', '.join(table.averaged)}."]
    if table.missing:
        lacks = " and ".join(f"{name} lacks {count:,} images" for name, count in table.missing.items())
        lines.append(f"{PARTIAL} Of a partial copy: {lacks}, so these are no results for the data set.")
    lines.append(
        f"Training images per seen class: {table.shots}." if table.shots else "All training images of seen classes."
    )
    if table.unreadable:
        counts = ", ".join(f"{count} of {name}" for name, count in table.unreadable.items())
        lines.append(f"Left out because they could not be read (extract.on_bad_image: skip): {counts}.")
    if table.harmonic:
        what = "harmonic mean of the means of" if table.averaged else "harmonic mean of"
        lines.append(f"H: {what} {' and '.join(table.harmonic)}, taken per seed, then averaged.")
    if table.published:
        published = table.published
        shots = f"{published.shots} shots" if published.shots else "all training images"
        line = f"Published: {published.source}; {published.encoder}, {shots}"
        lines.append(line + ("; H there is of the averaged accuracies." if table.harmonic else "."))
    else:
        lines.append("Published: nothing for this data set, protocol and number of shots.")
    return lines


def notes(params: Params, tables: Sequence[Table]) -> tuple[str, ...]:
    """What to know before reading a number; empty when the encoder is the papers' and the pictures are photographs."""
    name, spec = params.grid.encoder, params.encoder
    found = []
    if spec.model.startswith("local-dir:assets/"):
        found.append(
            f"{name} is a small stand-in that ships with this project, so that everything runs without a download: "
            "its numbers show the pipeline at work, not how good these methods are with CLIP."
        )
    for dataset in params.grid.datasets:
        if pictures := DRAWN.get(str(params.data.sets[dataset].get("reader"))):
            found.append(f"{dataset} is a stand-in too: its pictures are {pictures}.")
    partial = {name: count for table in tables for name, count in table.missing.items()}
    found += [
        f"{name} is a partial copy that lacks {count:,} images: every number from it is marked {PARTIAL}."
        for name, count in partial.items()
    ]
    others = {t.published.encoder for t in tables if t.published and not t.published.same_encoder}
    found += [
        f"Published values are those of another encoder, {encoder}, and ours are {name}'s: a difference tells of the "
        "two encoders before it tells of a method."
        for encoder in sorted(others)
    ]
    return tuple(found)


def gain_sentences(table: Table) -> list[str]:
    """What each generator's features changed: `coop+ship against coop: raises new by 9.80 points (in 3 of 3 seeds)`."""
    mark = f" {PARTIAL}" if table.missing else ""
    return [
        f"{row.run} against {row.method}: {', '.join(_changes(table, row))}.{mark}" for row in table.rows if row.gains
    ]


def _changes(table: Table, row: Row) -> list[str]:
    changes = [_changed(heading(column), row.gains[column]) for column in table.columns if column in row.gains]
    only = [heading(c) for c in table.columns if c not in row.gains and row.values[c].mean is not None]
    return [*changes, f"has {' and '.join(only)}, which {row.method} alone cannot have"] if only else changes


def _changed(name: str, gain: Gain) -> str:
    text = number(abs(gain.mean))
    if float(text) == 0:
        return f"leaves {name} as it was"
    verb, seeds = ("raises", gain.raised) if gain.mean > 0 else ("lowers", gain.lowered)
    return f"{verb} {name} by {text} points (in {seeds} of {gain.seeds} seeds)"
