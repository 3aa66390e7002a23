"""Stage `extract`: encode indexed images with the encoder's image tower, and store their features."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from stages.running import run
from features.datasets.base import reader_from
from features.encoding.augment import Views
from features.encoding.encoder import load_encoder
from features.errors import InputError, nearest
from features.extraction.bucket import shard_location
from features.extraction.extract import extract
from features.extraction.patch_tokens import patches_per_image
from features.extraction.pipeline import Extraction, compute
from features.extraction.ray_engine import OnRay
from features.index_table import read_index
from features.runtime.devices import keep_freed_memory, pick_device
from pipeline.artifacts import paths
from pipeline.config.params import PATH, Extract, load
from stages.options import Dataset


def main(dataset: Dataset) -> None:
    """Write `artifacts/<encoder>/features/<dataset>.zarr`."""
    params = load()
    sets, spec, settings = params.data.sets, params.encoder, params.extract
    if dataset not in sets:
        raise InputError(f"--dataset {dataset!r} is not in `data.sets` of {PATH}; {nearest(dataset, sets)}")
    folder = reader_from(sets[dataset], f"{PATH}: data.sets.{dataset}").base(Path(params.data.root))

    keep_freed_memory()  # before the weights are loaded, so that freed blocks are not cut up between them
    load_on = partial(load_encoder, params.grid.encoder, spec)
    on_ray = settings.engine == "ray"
    # The driver of a Ray cluster computes nothing, and may have no GPU.
    encoder = load_on("cpu" if on_ray else pick_device(params.compute.device))

    scratch, bucket = shard_location(params.compute.shards, paths.SCRATCH / "extract")
    job = Extraction(
        index=read_index(paths.index(dataset)),
        folder=folder,
        views=_views(settings),
        encoder=encoder,
        precision=settings.precision,
        batch=params.compute.batch,
        workers=params.compute.workers,
        patches=patches_per_image(encoder) if settings.patch_tokens else 0,
        on_bad_image=settings.on_bad_image,
        bucket=bucket,
    )
    engine = OnRay(load_on, params.compute.device) if on_ray else compute
    extract(job, paths.EncoderPaths(params.artifacts).features(dataset), scratch, engine)


def _views(settings: Extract) -> Views:
    low, high = settings.view_scale
    families = {name: (low, high) for name, (low, high) in settings.view_families.items()}
    return Views(settings.views, (low, high), settings.view_seed, families)


if __name__ == "__main__":
    run(main)
