"""The plain files of the report: `results.csv`, `summary.md`, and the data of `dvc metrics`."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from features.formats.csv_cells import write_rows
from pipeline.artifacts.balanced_scores import BalancedScores
from pipeline.artifacts.scores import HARMONIC_MEAN, Scores
from pipeline.report.balance import balance_caption, balance_cells, seed_values
from pipeline.report.formatting import DASH, caption, footnotes, gain_sentences, heading, number, plus_minus, signed
from pipeline.report.generators import generator_caption, generator_cells
from pipeline.report.selected import selection_sentences
from pipeline.report.summary import Reference, Summary, Table, Value

RESULTS = ("task", "dataset", "method", "seed", "eval_split", "accuracy", "n", "missing_images", "unreadable_images")


def results_csv(scores: Sequence[Scores], balanced: Sequence[BalancedScores] = ()) -> str:
    """Return tidy results: one line per task, data set, run, seed and evaluation split.

    Columns: `method` is the run (`coop+ship`), `accuracy` is in percent and empty if there is none, `n` is the number
    of test images, `missing_images` is the number of images that a partial copy lacks, and `unreadable_images` is the
    number of images left out of the training images and of these test images.

    H has lines of its own, with the evaluation split `harmonic_mean` and the images of both splits as `n`. So have the
    measures of `pipeline.report.balance`: `ausuc`, `plain_seen` and so on, and with the chosen offset `balanced_seen`
    and so on. Leave these lines out when you average over evaluation splits.
    """
    of_task = {(task.dataset, task.task): task for task in balanced}
    lines: list[tuple[object, ...]] = []
    for run in scores:
        missing = sum(run.missing.values())
        task = of_task.get((run.dataset, run.task))
        with_offset = task.run(run.run) if task else None
        for seed in run.seeds:
            for name in run.eval_splits:
                parts = run.harmonic if name == HARMONIC_MEAN and run.harmonic else (name,)
                n = sum(seed.eval_splits[part].n for part in parts)
                unreadable = sum(run.unreadable.get(part, 0) for part in ("training", *parts))

                # Six decimals: digits beyond differ by machine.
                accuracy = seed.accuracy(name)
                value = "" if accuracy is None else round(accuracy, 6)
                lines.append((run.task, run.dataset, run.run, seed.seed, name, value, n, missing, unreadable))

            everything = sum(score.n for score in seed.eval_splits.values())
            unreadable = sum(run.unreadable.values())
            for name, measure in seed_values(seed, with_offset).items():
                key = (run.task, run.dataset, run.run, seed.seed, name)
                lines.append((*key, round(measure, 6), everything, missing, unreadable))

    return _csv(RESULTS, lines)


def metrics(summary: Summary) -> dict[str, dict[str, float]]:
    """Return the means, one file per run or generator, so that `dvc metrics show` prints one line for each.

    Returns:
        file name (`<dataset>/<task>/<run>.json`) -> column or measure -> mean.
    """
    files: dict[str, dict[str, float]] = {}
    for table in summary.tables:
        folder = f"{table.dataset}/{table.task}"

        for row in table.rows:
            means = {heading(column): row.values[column].mean for column in table.columns}
            files[f"{folder}/{row.run}.json"] = {
                name: round(mean, 4) for name, mean in means.items() if mean is not None
            }

        for balance in table.balance:
            files[f"{folder}/{balance.run}.json"] |= {
                name: round(measure.mean, 4) for name, measure in balance.measures.items()
            }

        for generator in table.generators:
            files[f"{folder}/{generator.generator}.quality.json"] = {
                name: round(measure.mean, 6) for name, measure in generator.measures.items()
            }
    return files


def markdown(summary: Summary) -> str:
    """Return `summary.md`: the notes, then every table with its caption."""
    encoder = summary.encoder
    model = ", ".join(filter(None, (encoder.model, encoder.pretrained)))

    lines = [f"# Results with {encoder.name}", ""]
    if len(summary.seeds) == 1:
        lines += [f"Top-1 accuracy in percent, of seed {summary.seeds[0]}."]
        lines += [f"Encoder: {encoder.name} (`{model}`), weights sha256 `{encoder.weights_sha256}`.", ""]
    else:
        lines += ["Top-1 accuracy in percent, mean ± sample standard deviation over"]
        lines += [f"seeds {', '.join(map(str, summary.seeds))}. Encoder: {encoder.name} (`{model}`), weights sha256"]
        lines += [f"`{encoder.weights_sha256}`.", ""]
    for note in summary.notes:
        lines += [f"> {note}", ">"]
    lines = [*lines[:-1], ""] if summary.notes else lines

    for table in summary.tables:
        lines += [f"## {table.title}", ""]
        if table.selection:
            lines += [" ".join(selection_sentences(table.selection)), ""]
        lines += [*_markdown_table(table), ""]
        lines += [f"[{i}] {reason}  " for i, reason in enumerate(footnotes(table), start=1)]
        lines += ["", " ".join(caption(table)), ""]
        lines += [f"- {sentence}" for sentence in gain_sentences(table)]
        lines += [""]

        if table.balance:
            head, *rows = balance_cells(table.balance)
            lines += [f"### {table.title}: seen and unseen classes in balance", "", _bar(head)]
            lines += [_bar(["---"] + ["--:"] * (len(head) - 1)), *map(_bar, rows), ""]
            lines += [" ".join(balance_caption(table.balance)), ""]

        if table.generators:
            head, *rows = generator_cells(table.generators)
            lines += [f"### {table.title}: synthetic features", "", _bar(head)]
            lines += [_bar(["---"] + ["--:"] * (len(head) - 1)), *map(_bar, rows), ""]
            lines += [generator_caption(table.generators), ""]

    return "\n".join(lines).rstrip() + "\n"


def _markdown_table(table: Table) -> list[str]:
    """Return the lines of one table, with two more columns for each if there are published values."""
    reasons = footnotes(table)

    head = ["run"]
    for column in table.columns:
        head += [heading(column), "published", "difference"] if table.published else [heading(column)]
    lines = [_bar(head), _bar(["---"] + ["--:"] * (len(head) - 1))]

    for row in table.scored:
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
    """Return the label of a published row on other features: `TCN (published: ResNet-101, expert attributes)`."""
    return f"{reference.name} (published: {reference.features})"


def published_cells(value: Value) -> tuple[str, str]:
    """Return the published value and the difference from it, or dashes."""
    return (
        DASH if value.published is None else number(value.published),
        DASH if value.difference is None else signed(value.difference),
    )


def _bar(cells: Iterable[str]) -> str:
    """Return one line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def _csv(header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    write_rows(text, [header, *lines])
    return text.getvalue()
