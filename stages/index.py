"""Index a data set: its images with class, split and sha256, and its class names."""

from __future__ import annotations

from pathlib import Path

from stages.running import run
from features.datasets.base import reader_from
from features.errors import InputError, nearest
from features.index import write_index
from features.splits.image_files import passed_over_lines
from pipeline.artifacts import paths
from pipeline.config.params import PATH, load
from stages.options import Dataset


def main(dataset: Dataset) -> None:
    """Write `artifacts/index/<dataset>.parquet` and `artifacts/index/<dataset>.json`."""
    data = load().data
    if dataset not in data.sets:
        raise InputError(f"--dataset {dataset!r} is not in `data.sets` of {PATH}; {nearest(dataset, data.sets)}")

    reader = reader_from(data.sets[dataset], f"{PATH}: data.sets.{dataset}")
    root = Path(data.root)
    listing = reader.read(root)
    duplicates = write_index(
        listing,
        reader.base(root),
        table=paths.index(dataset),
        names=paths.names(dataset),
        cache=paths.digests(dataset),
    )
    for line in [*passed_over_lines(listing.passed_over), *duplicates]:
        print(f"{dataset}: {line}", flush=True)


if __name__ == "__main__":
    run(main)
