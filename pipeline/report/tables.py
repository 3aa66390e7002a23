"""The report's plain files: `results.csv`, `summary.md`, and the data of `dvc metrics`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from pipeline.artifacts.scores import HARMONIC_MEAN, Scores
from pipeline.report.formatting import DASH, caption, footnotes, gain_sentences, heading, number, plus_minus, signed
from pipeline.report.generators import generator_caption, generator_cells
from pipeline.report.summary import Reference, Summary, Table, Value

RESULTS = ("task", "dataset", "method", "seed", "eval_split", "accuracy", "n", "missing_images", "unreadable_images")


def results_csv(scores: Sequence[Scores]) -> str:
    """Tidy results: a line per task, data set, run, seed and eval_split.

    `method` is the run (`coop+ship`), `accuracy` percent, empty where there is none; `n` test images. H has lines of
    its own, eval_split `harmonic_mean`, n the images of both eval_splits; leave them out before averaging eval_splits.
    `missing_images`: of a partial copy; `unreadable_images`: left out of the training images and of these test images.
    """
    lines: list[tuple[object, ...]] = []
    for run in scores:
        lacking = sum(run.missing.values())
        for seed in run.seeds:
            for name in run.eval_splits:
                pair = run.harmonic if name == HARMONIC_MEAN and run.harmonic else (name,)
                value = seed.accuracy(name)
                n = sum(seed.eval_splits[part].n for part in pair)
                bad = sum(run.unreadable.get(part, 0) for part in ("training", *pair))
                lines.append((run.task, run.dataset, run.run, seed.seed, name, *_rounded(value), n, lacking, bad))
    return _csv(RESULTS, lines)


def metrics(summary: Summary) -> dict[str, dict[str, float]]:
    """Means alone, a file a run, so that `dvc metrics show` prints a line a run: `<dataset>/<task>/<run>.json`."""
    return {
        f"{table.dataset}/{table.task}/{row.run}.json": {
            heading(c): round(mean, 4) for c in table.columns if (mean := row.values[c].mean) is not None
        }
        for table in summary.tables
        for row in table.rows
    } | {
        f"{table.dataset}/{table.task}/{row.generator}.quality.json": {
            name: round(measure.mean, 6) for name, measure in row.measures.items()
        }
        for table in summary.tables
        for row in table.generators
    }


def markdown(summary: Summary) -> str:
    """`summary.md`: the tables, with what to know before reading them."""
    encoder = summary.encoder
    model = ", ".join(filter(None, (encoder.model, encoder.pretrained)))
    lines = [f"# Results with {encoder.name}", "", "Top-1 accuracy in percent, mean ± sample standard deviation over"]
    lines += [f"seeds {', '.join(map(str, summary.seeds))}. Encoder: {encoder.name} (`{model}`), weights sha256"]
    lines += [f"`{encoder.weights_sha256}`.", ""]
    for note in summary.notes:
        lines += [f"> {note}", ">"]
    lines = [*lines[:-1], ""] if summary.notes else lines
    for table in summary.tables:
        lines += [f"## {table.dataset}, {table.task}", "", *_markdown_table(table), ""]
        lines += [f"[{i}] {reason}  " for i, reason in enumerate(footnotes(table), start=1)]
        lines += ["", " ".join(caption(table)), ""]
        lines += [f"- {sentence}" for sentence in gain_sentences(table)]
        lines += [""]
        if table.generators:
            head, *rows = generator_cells(table.generators)
            lines += [f"### {table.dataset}, {table.task}: synthetic features", "", _bar(head)]
            lines += [_bar(["---"] + ["--:"] * (len(head) - 1)), *map(_bar, rows), ""]
            lines += [generator_caption(table.generators), ""]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_table(table: Table) -> list[str]:
    head, reasons = ["run"], footnotes(table)
    for column in table.columns:
        head += [heading(column), "published", "difference"] if table.published else [heading(column)]
    lines = [_bar(head), _bar(["---"] + ["--:"] * (len(head) - 1))]
    for row in table.rows:
        cells = [f"`{row.run}`"]
        for column in table.columns:
            value = row.values[column]
            cells.append(plus_minus(value, reasons))
            cells += list(published_cells(value)) if table.published else []
        lines.append(_bar(cells))
    for reference in table.references:
        cells = [reference_name(reference)]
        for column in table.columns:
            cells += ["", number(reference.values[column]) if column in reference.values else DASH, ""]
        lines.append(_bar(cells))
    return lines


def reference_name(reference: Reference) -> str:
    """What a published row that no run can be is called: `TCN (published: ResNet-101, expert attributes)`."""
    return f"{reference.name} (published: {reference.features})"


def published_cells(value: Value) -> tuple[str, str]:
    """The published value and the difference from it, a dash for what is not there."""
    return (
        DASH if value.published is None else number(value.published),
        DASH if value.difference is None else signed(value.difference),
    )


def _bar(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rounded(*numbers: float | None) -> tuple[float | str, ...]:
    """Six decimals, for what lies beyond differs by machine; empty for what is not there."""
    return tuple("" if number is None else round(number, 6) for number in numbers)


def _csv(header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *lines])
    return text.getvalue()
