"""Build the whole report: read every score file of the grid, write one folder."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path

from features.errors import InputError, raise_all
from features.formats.files import atomic_folder, canonical_json
from features.formats.seal import sealed_json
from pipeline.artifacts.balanced_scores import BalancedScores
from pipeline.artifacts.generator_scores import GeneratorQuality
from pipeline.artifacts.scores import Scores, grid_runs, read_scores, score_path
from pipeline.config.params import Params
from pipeline.report import tables
from pipeline.report.balance import read_balanced, with_balance
from pipeline.report.diagnostics_data import read_diagnostics
from pipeline.report.figures import FIELDS, figure_csv, figures, shots_figures
from pipeline.report.formatting import notes
from pipeline.report.generators import generators_csv, read_qualities, with_generators
from pipeline.report.page import page
from pipeline.report.searches import with_searches
from pipeline.report.summary import Encoder, Summary, build_tables


def read_grid(params: Params) -> list[Scores]:
    """Read the scores of every cell of the grid, in display order. Ignore other files.

    Raises:
        InputError: the grid lacks zero-shot CLIP; or files are missing, damaged, of other seeds than `grid.seeds`, or
            of different encoders. The error lists all problems of one kind.
    """
    if "zero_shot" not in params.grid.methods:
        raise InputError(
            f"grid.methods is {params.grid.methods}, without zero_shot: every table reports zero-shot CLIP as the "
            "baseline. Add `zero_shot` to grid.methods in params.yaml; it needs no training."
        )

    files = [(cell, score_path(params.artifacts, cell)) for cell in grid_runs(params)]
    missing = [f"{path}: run `dvc repro {cell.stage}`" for cell, path in files if not path.is_file()]
    raise_all(missing, "score files of the grid are missing")

    scores = [read_scores(path) for _, path in files]
    raise_all(_mismatches(params, scores), "score files do not match params.yaml or each other")
    return scores


def _mismatches(params: Params, scores: list[Scores]) -> list[str]:
    """Return a problem for each run with other seeds than the grid's, or with another encoder than most runs."""
    digests = Counter(s.encoder.weights_sha256 for s in scores)
    (majority, _), *_ = digests.most_common(1)

    problems = []
    for s in scores:
        run = f"{s.dataset}/{s.task}/{s.run}"
        stage = "evaluate_synthetic" if s.generator else "evaluate"

        seeds = [seed.seed for seed in s.seeds]
        if sorted(seeds) != sorted(params.grid.seeds):
            problems.append(f"{run}: seeds {seeds}, but grid.seeds is {params.grid.seeds}; run `dvc repro {stage}`")

        digest = s.encoder.weights_sha256
        if digest != majority:
            problems.append(
                f"{run}: encoder weights {digest[:12]}…, but most runs have {majority[:12]}…; run `dvc repro {stage}`"
            )
    return problems


def summarize(
    params: Params, scores: list[Scores], qualities: list[GeneratorQuality], balanced: list[BalancedScores]
) -> Summary:
    """Return the tables and notes of a complete grid."""
    spec = params.encoder
    summary_tables = tuple(
        with_searches(params, with_balance(with_generators(table, qualities), scores, balanced))
        for table in build_tables(params, scores)
    )
    return Summary(
        encoder=Encoder(
            name=params.grid.encoder,
            model=spec.model,
            pretrained=spec.pretrained,
            weights_sha256=scores[0].encoder.weights_sha256,
        ),
        seeds=tuple(params.grid.seeds),
        notes=notes(params, summary_tables),
        tables=summary_tables,
    )


def write_report(params: Params, folder: Path) -> None:
    """Read the scores of the grid and write the folder of the report, either the whole folder or nothing.

    Raises:
        InputError: see `read_grid`, `read_qualities` and `read_balanced`; or runs of one table were evaluated on
            different images.
    """
    scores = read_grid(params)
    qualities, balanced = read_qualities(params), read_balanced(params)
    summary = summarize(params, scores, qualities, balanced)

    diagnostics = [read_diagnostics(params, table) for table in summary.tables]
    charts = [figures(table, data) for table, data in zip(summary.tables, diagnostics, strict=True)]
    shots = shots_figures(summary)

    files = {
        "results.csv": tables.results_csv(scores, balanced),
        "generators.csv": generators_csv(qualities),
        "summary.json": sealed_json(summary.model_dump(mode="json")).decode(),
        "summary.md": tables.markdown(summary),
        "index.html": page(params, summary, diagnostics, charts, shots),
    }

    # One CSV per kind of figure, with the records of every table, for `dvc plots`.
    all_figures = [*chain.from_iterable(charts), *shots]
    for name in FIELDS:
        files[f"plots/{name}.csv"] = figure_csv(name, (figure for figure in all_figures if figure.name == name))
    for name, means in tables.metrics(summary).items():
        files[f"metrics/{name}"] = canonical_json(means)

    with atomic_folder(folder) as part:
        for name, text in files.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_text(text, encoding="utf-8", newline="\n")
