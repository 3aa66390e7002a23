"""How good each generator's features are: the report's table of generators, its caption, and `generators.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from statistics import fmean, stdev
from types import MappingProxyType

from features.errors import raise_all
from pipeline.artifacts.generator_scores import GeneratorQuality, SeedQuality, read_quality
from pipeline.artifacts.paths import EncoderPaths
from pipeline.config.params import Params
from pipeline.report.summary import GeneratorRow, Measure, Table

# Column -> its heading, and how its numbers are printed. The order is the table's.
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
CAPTION = (
    "Synthetic features against test images of unseen classes, which no generator saw. nearest mean: accuracy on them, "
    "by class, of the nearest mean of synthetic features. Fréchet: distance, 0 is best. precision, density: synthetic "
    "among images; recall, coverage: images among synthetic. AUC: of a linear classifier that tells the two apart, 0.5 "
    "is best. spread: within-class standard deviation of a coordinate, and that of images. KL, active units: what the "
    "latent carries of an image; a dash where there is no encoder."
)


def read_qualities(params: Params) -> list[GeneratorQuality]:
    """Every generator's file that the grid names, but those of rehearsals, in display order.

    Raises:
        InputError: files that are missing or damaged, or were made with other seeds than `grid.seeds`.
    """
    grid = params.grid
    cells = [(d, t, g) for d in grid.datasets for t in params.reported_tasks for g in grid.generators]
    paths = [EncoderPaths(params.artifacts).cell(d, t).quality(g) for d, t, g in cells]
    missing = [f"{path}: run `dvc repro evaluate_generator`" for path in paths if not path.is_file()]
    raise_all(missing, "measures of generators that the grid names are missing")
    found = [read_quality(path) for path in paths]
    others = [
        f"{path}: seeds {seeds}, but grid.seeds is {grid.seeds}; run `dvc repro evaluate_generator`"
        for path, quality in zip(paths, found, strict=True)
        if sorted(seeds := [seed.seed for seed in quality.seeds]) != sorted(grid.seeds)
    ]
    raise_all(others, "measures were not made with these parameters")
    return found


def with_generators(table: Table, qualities: Sequence[GeneratorQuality]) -> Table:
    """The table with a row for each generator of its task and data set."""
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
    return {**seed.unseen, **{f"seen_{name}": value for name, value in seed.seen.items()}, **seed.latent}


def _measures(seeds: Sequence[dict[str, float]]) -> dict[str, Measure]:
    """Mean and sample standard deviation over seeds of what every seed has."""
    names = [name for name in seeds[0] if all(name in seed for seed in seeds)]
    numbers = {name: [seed[name] for seed in seeds] for name in names}
    return {n: Measure(mean=fmean(v), std=stdev(v) if len(v) > 1 else None) for n, v in numbers.items()}


def generator_cells(rows: Sequence[GeneratorRow]) -> list[list[str]]:
    """The table as text, headings first; columns that no generator has are left out."""
    columns = {name: how for name, how in COLUMNS.items() if any(name in row.measures for row in rows)}
    lines = [["generator", *(heading for heading, _ in columns.values())]]
    for row in rows:
        shown = [_printed(row.measures.get(name), how) for name, (_, how) in columns.items()]
        lines.append([row.generator, *shown])
    return lines


def _printed(measure: Measure | None, how: str) -> str:
    if measure is None:
        return "–"
    return f"{measure.mean:{how}}" + ("" if measure.std is None else f" ± {measure.std:{how}}")


def generator_caption(rows: Sequence[GeneratorRow]) -> str:
    """What the table's numbers are, and of how many images."""
    row = rows[0]
    if not row.images:
        return "No unseen class has two test images, so that only what was learned of the seen ones can be measured."
    part = "" if row.classes == row.named else f", the others of {row.named} have fewer than two"
    return f"{row.images} test images of {row.classes} unseen classes{part}. {CAPTION}"


def generators_csv(qualities: Sequence[GeneratorQuality]) -> str:
    """Tidy measures: a line per task, data set, generator, seed and measure; `class` where it is of one class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("task", "dataset", "generator", "seed", "measure", "class", "value"))
    for quality in qualities:
        for seed in quality.seeds:
            place = (quality.task, quality.dataset, quality.generator, seed.seed)
            writer.writerows((*place, name, label, round(value, 6)) for name, label, value in _lines(seed))
    return text.getvalue()


def _lines(seed: SeedQuality) -> Iterator[tuple[str, str, float]]:
    yield from ((name, "", value) for name, value in _flat(seed).items())
    yield from (("nearest_mean_accuracy", label, value) for label, value in seed.nearest_mean.items())
