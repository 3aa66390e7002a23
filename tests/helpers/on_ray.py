"""Run several extractions on Ray and print the results of each as JSON.

They run in a process of their own because Ray leaves ResourceWarnings behind, which are errors in the tests.

Usage: `python on_ray.py <folder>`; `<folder>/images` contains the pictures.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import torch
from loopback_s3 import s3_server
from pictures import index_of, job, tiny_encoder

from features.encoding.encoder import Encoder
from features.errors import InputError
from features.extraction.bucket import Bucket
from features.extraction.extract import extract
from features.extraction.pipeline import compute
from features.extraction.ray_engine import OnRay
from features.image_store import writer as image_store_writer

CROPS = 64
ENCODE_SHARD, ENCODE_CROPS = image_store_writer.encode_shard, Encoder.encode_crops


def load(folder: Path, device: str, *, seed: int = 0, dies: bool = False) -> Encoder:
    """Load the tiny encoder in an actor with small shards, which logs each shard that it encodes.

    With `dies`, the first actor to get to its second shard kills itself.
    """
    image_store_writer.CROPS_IN_SHARD = CROPS
    calls = Counter[str]()

    def logged(features: object, chunk: int) -> bytes:
        with (folder / "log").open("a") as log:
            log.write(f"{os.getpid()}\n")
        return ENCODE_SHARD(features, chunk)  # type: ignore[arg-type]

    def dying(self: Encoder, crops: torch.Tensor, precision: str) -> torch.Tensor:
        calls["batches"] += 1
        if calls["batches"] == 10:  # in its second shard
            (folder / "dead").write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return ENCODE_CROPS(self, crops, precision)  # type: ignore[arg-type]

    image_store_writer.encode_shard = logged  # type: ignore[assignment]
    Encoder.encode_crops = ENCODE_CROPS  # type: ignore[method-assign]
    if dies and not (folder / "dead").exists():
        Encoder.encode_crops = dying  # type: ignore[assignment, method-assign]
    return tiny_encoder(folder / "encoder", seed)


def run(folder: Path, engine: object, out: str, bucket: Bucket | None = None) -> str:
    """Extract and return the error message, "" if there is none."""
    root = folder / "images"
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    order = {"train": 0, "val": 1, "test": 2}
    rows = sorted(((path, int(path.split("/")[1]), path.split("/")[0]) for path in paths), key=lambda r: order[r[2]])
    extraction = job(root, index_of(root, rows), tiny_encoder(folder / "encoder"), bucket=bucket)  # type: ignore[arg-type]
    try:
        extract(extraction, folder / out, folder / f"scratch-{out}", engine)  # type: ignore[arg-type]
    except InputError as error:
        return str(error)
    return ""


def main(folder: Path) -> None:
    import on_ray  # noqa: PLC0415 - this file, by the name under which actors import it
    import ray

    image_store_writer.CROPS_IN_SHARD = CROPS
    run(folder, compute, "local.zarr")
    load_here = partial(on_ray.load, folder)
    with s3_server() as settings:
        os.environ.update(settings)  # before Ray's processes start, so that they inherit it
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        results = {
            "killed": run(folder, OnRay(partial(load_here, dies=True), "cpu"), "killed.zarr"),
            "wrote": (folder / "log").read_text(),
            "other weights": run(folder, OnRay(partial(load_here, seed=1), "cpu"), "other.zarr"),
            "too small": run(folder, OnRay(load_here, "cuda"), "small.zarr"),
            "bucket": run(folder, OnRay(load_here, "cpu"), "bucket.zarr", Bucket("s3://team/shards")),
            "no bucket": run(folder, OnRay(load_here, "cpu"), "none.zarr", Bucket("s3://nowhere/shards")),
        }
        ray.shutdown()
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
