"""The whole report: every score file that the grid names in, one folder out."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path

from features.errors import InputError, raise_all
from features.formats.files import atomic_folder, canonical_json
from pipeline.artifacts.generator_scores import GeneratorQuality
from pipeline.artifacts.scores import Scores, grid_runs, read_scores, score_path
from pipeline.config.params import Params
from pipeline.report import tables
from pipeline.report.diagnostics_data import observe
from pipeline.report.figures import FIELDS, figure_csv, figures, shots_figures
from pipeline.report.formatting import notes
from pipeline.report.generators import generators_csv, read_qualities, with_generators
from pipeline.report.page import page
from pipeline.report.summary import Encoder, Summary
from pipeline.report.summary import tables as make_tables


def read_grid(params: Params) -> list[Scores]:
    """The scores of every cell of the grid but rehearsals', in display order; what else lies there is not read.

    Raises:
        InputError: the grid lacks zero-shot CLIP; files that are missing or damaged, that were made with other seeds
            than `grid.seeds`, or by different encoders. Each kind is listed whole.
    """
    if "zero_shot" not in params.grid.methods:
        raise InputError(
            f"grid.methods is {params.grid.methods}, without zero_shot: every table prints zero-shot CLIP, for a gain "
            "is a gain over it. Put `zero_shot` into grid.methods in params.yaml; it takes no training."
        )
    reported = [cell for cell in grid_runs(params) if cell.task in params.reported_tasks]
    cells = [(cell, score_path(params.artifacts, cell)) for cell in reported]
    missing = [f"{path}: run `dvc repro {cell.stage}`" for cell, path in cells if not path.is_file()]
    raise_all(missing, "scores that the grid names are missing")
    scores = [read_scores(path) for _, path in cells]
    raise_all(_foreign(params, scores), "scores were not made with these parameters")
    return scores


def _foreign(params: Params, scores: list[Scores]) -> list[str]:
    """Scores with other seeds than the grid's, or of another encoder than most of the others."""
    (weights, _), *_ = Counter(s.encoder.weights_sha256 for s in scores).most_common(1)
    problems = []
    for s in scores:
        where, stage = f"{s.dataset}/{s.task}/{s.run}", "evaluate_synthetic" if s.generator else "evaluate"
        seeds = [seed.seed for seed in s.seeds]
        if sorted(seeds) != sorted(params.grid.seeds):
            problems.append(f"{where}: seeds {seeds}, but grid.seeds is {params.grid.seeds}; run `dvc repro {stage}`")
        if s.encoder.weights_sha256 != weights:
            problems.append(
                f"{where}: encoder weights {s.encoder.weights_sha256[:12]}…, but most are of {weights[:12]}…; "
                f"run `dvc repro {stage}`"
            )
    return problems


def summarise(params: Params, scores: list[Scores], qualities: list[GeneratorQuality]) -> Summary:
    """Tables and notes of a complete grid."""
    spec = params.encoder
    found = tuple(with_generators(table, qualities) for table in make_tables(params, scores))
    return Summary(
        encoder=Encoder(
            name=params.grid.encoder,
            model=spec.model,
            pretrained=spec.pretrained,
            weights_sha256=scores[0].encoder.weights_sha256,
        ),
        seeds=tuple(params.grid.seeds),
        notes=notes(params, found),
        tables=found,
    )


def write_report(params: Params, folder: Path) -> None:
    """Read the grid's scores and write the report's folder, whole or not at all.

    Raises:
        InputError: as `read_grid` and `read_qualities`; runs of one table that were judged on different images.
    """
    scores, qualities = read_grid(params), read_qualities(params)
    summary = summarise(params, scores, qualities)
    seen = [observe(params, table) for table in summary.tables]
    charts = [figures(table, found) for table, found in zip(summary.tables, seen, strict=True)]
    shots = shots_figures(summary)
    files = {
        "results.csv": tables.results_csv(scores),
        "generators.csv": generators_csv(qualities),
        "summary.json": canonical_json(summary.model_dump(mode="json")),
        "summary.md": tables.markdown(summary),
        "index.html": page(params, summary, seen, charts, shots),
    }
    drawn = [*chain.from_iterable(charts), *shots]
    files |= {f"plots/{name}.csv": figure_csv(name, (f for f in drawn if f.name == name)) for name in FIELDS}
    files |= {f"metrics/{name}": canonical_json(means) for name, means in tables.metrics(summary).items()}
    with atomic_folder(folder) as part:
        for name, text in files.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_text(text, encoding="utf-8", newline="\n")
