"""The quality of each generator's features: the table of generators, its caption, and `generators.csv`."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from itertools import product
from statistics import fmean, stdev
from types import MappingProxyType

from features.errors import raise_all
from features.formats.csv_cells import write_rows
from pipeline.artifacts.generator_scores import GeneratorQuality, SeedQuality, read_quality
from pipeline.artifacts.paths import EncoderPaths
from pipeline.config.params import Params
from pipeline.report.summary import GeneratorRow, Measure, Table

# Measure -> heading and number format, in the order of the columns.
COLUMNS = MappingProxyType(
    {
        "nearest_mean_accuracy": ("nearest mean %", ".2f"),
        "frechet": ("Fréchet", ".3f"),
        "precision": ("precision %", ".1f"),
        "recall": ("recall %", ".1f"),
        "density": ("density %", ".1f"),
        "coverage": ("coverage %", ".1f"),
        "real_vs_synthetic_auc": ("AUC", ".3f"),
        "spread_synthetic": ("spread", ".4f"),
        "spread_real": ("of images", ".4f"),
        "seen_spread_synthetic": ("spread, seen", ".4f"),
        "seen_spread_real": ("of images, seen", ".4f"),
        "kl": ("KL, nats", ".3g"),
        "active_units": ("active units", ".1f"),
    }
)
FAR = 50.0  # percent of precision below which most features lie apart from images
CAPTION = (
    "The table compares synthetic features with test images of unseen classes, which no generator was trained on. "
    "nearest mean: accuracy, averaged over classes, of classifying the test images by the nearest mean of synthetic "
    "features. Fréchet: Fréchet distance, 0 is best. precision: share of synthetic features that are close to images; "
    "density: number of images that they are close to, relative to k, which may exceed 100. recall, coverage: share of "
    "images that are close to synthetic features (Kynkäänniemi et al. 2019, Naeem et al. 2020). AUC: of a linear "
    "classifier that separates the two, 0.5 is best. spread: within-class standard deviation of a coordinate, followed "
    "by that of images. KL and active units: information about the image in the latent; a dash if the generator has no "
    "encoder."
)


def read_qualities(params: Params) -> list[GeneratorQuality]:
    """Read the measures of every generator of the grid, in display order.

    Raises:
        InputError: files are missing, damaged, or of other seeds than `grid.seeds`.
    """
    grid = params.grid
    encoded = EncoderPaths(params.artifacts)
    cells = product(grid.datasets, grid.tasks, grid.generators)
    paths = [encoded.cell(dataset, task).quality(generator) for dataset, task, generator in cells]

    missing = [f"{path}: run `dvc repro evaluate_generator`" for path in paths if not path.is_file()]
    raise_all(missing, "measures of generators of the grid are missing")

    qualities = [read_quality(path) for path in paths]
    mismatches = [
        f"{path}: seeds {seeds}, but grid.seeds is {grid.seeds}; run `dvc repro evaluate_generator`"
        for path, quality in zip(paths, qualities, strict=True)
        if sorted(seeds := [seed.seed for seed in quality.seeds]) != sorted(grid.seeds)
    ]
    raise_all(mismatches, "measures of generators do not match params.yaml")
    return qualities


def with_generators(table: Table, qualities: Sequence[GeneratorQuality]) -> Table:
    """Return the table with a row for each generator of its task and data set."""
    rows = tuple(
        GeneratorRow(
            generator=quality.generator,
            images=quality.images,
            classes=quality.classes,
            named=quality.named,
            measures=_measures([_flat(seed) for seed in quality.seeds]),
        )
        for quality in qualities
        if (quality.dataset, quality.task) == (table.dataset, table.task)
    )
    return table.model_copy(update={"generators": rows})


def _flat(seed: SeedQuality) -> dict[str, float]:
    """Return the measures of one seed as one mapping; those on seen classes start with `seen_`."""
    return {**seed.unseen, **{f"seen_{name}": value for name, value in seed.seen.items()}, **seed.latent}


def _measures(seeds: Sequence[dict[str, float]]) -> dict[str, Measure]:
    """Return mean and sample standard deviation over seeds of each measure that every seed has."""
    measures = {}
    for name in seeds[0]:
        values = [seed[name] for seed in seeds if name in seed]
        if len(values) == len(seeds):
            measures[name] = Measure(mean=fmean(values), std=stdev(values) if len(values) > 1 else None)
    return measures


def generator_cells(rows: Sequence[GeneratorRow]) -> list[list[str]]:
    """Return the cells of the table as text, headings first; columns that no generator has are left out."""
    columns = {name: column for name, column in COLUMNS.items() if any(name in row.measures for row in rows)}

    lines = [["generator", *(heading for heading, _ in columns.values())]]
    for row in rows:
        cells = [_format(row.measures.get(name), spec) for name, (_, spec) in columns.items()]
        lines.append([row.generator, *cells])
    return lines


def _format(measure: Measure | None, spec: str) -> str:
    if measure is None:
        return "–"
    return f"{measure.mean:{spec}}" + ("" if measure.std is None else f" ± {measure.std:{spec}}")


def far_sentences(rows: Sequence[GeneratorRow]) -> Iterator[str]:
    """Yield a sentence for each generator whose synthetic features mostly lie apart from images."""
    for row in rows:
        precision = row.measures.get("precision")
        if precision is not None and precision.mean < FAR:
            yield (
                f"{row.generator}: {100 - precision.mean:.0f} % of its synthetic features lie far from the images of "
                "unseen classes, farther from each than its nearest neighbours among the images (precision "
                f"{precision.mean:.1f} %)."
            )


def generator_caption(rows: Sequence[GeneratorRow]) -> str:
    """Return the caption of the table, with the number of images."""
    row = rows[0]
    if not row.images:
        return "No unseen class has two test images, so only the measures on seen classes are available."

    skipped = "" if row.classes == row.named else f"; the others of {row.named} have fewer than two images"
    compared = f"{row.images} test images of {row.classes} unseen classes{skipped}."
    return " ".join([compared, CAPTION, *far_sentences(rows)])


def generators_csv(qualities: Sequence[GeneratorQuality]) -> str:
    """Return tidy measures: one line per task, data set, generator, seed and measure; `class` if it is of one class."""
    text = io.StringIO()
    rows: list[tuple[object, ...]] = [("task", "dataset", "generator", "seed", "measure", "class", "value")]
    for quality in qualities:
        for seed in quality.seeds:
            key = (quality.task, quality.dataset, quality.generator, seed.seed)
            rows += [(*key, name, label, round(value, 6)) for name, label, value in _lines(seed)]
    write_rows(text, rows)
    return text.getvalue()


def _lines(seed: SeedQuality) -> Iterator[tuple[str, str, float]]:
    """Yield (measure, class or empty, value) of one seed."""
    yield from ((name, "", value) for name, value in _flat(seed).items())
    yield from (("nearest_mean_accuracy", label, value) for label, value in seed.nearest_mean.items())
