"""Synthetic features on disk: Parquet shards that any tool can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.errors import InputError
from features.formats.files import atomic_folder
from features.formats.parquet import column, list_column, read_sealed, write_sealed
from features.formats.untrusted import wrap_parser_errors

ROWS_PER_SHARD = 65_536  # 48 MB with 384 float16 values a row: few files for DVC to hash, small enough to share

FIX_HINT = "create it again: `dvc repro synthesize`"


@dataclass(frozen=True)
class SyntheticFeatures:
    """M synthetic features of one seed.

    Attributes:
        features: (M, D) float16.
        class_ids: (M,) int64, positions in the task's classes.
        class_names: (M,) names of these classes.
        seed: Seed of the generator.
        generator_sha256: Digest of the fitted generator's file, so that features and generator can be matched.
    """

    features: NDArray[np.float16]
    class_ids: NDArray[np.int64]
    class_names: Sequence[str]
    seed: int
    generator_sha256: str


def save_synthetic(synthetic: SyntheticFeatures, folder: Path) -> None:
    """Write `part-00000.parquet` and so on, with columns class_id, class_name, seed and feature.

    The folder appears completely or not at all.
    """
    m, d = synthetic.features.shape
    flat = pa.array(synthetic.features.reshape(-1), pa.float16())
    table = pa.table(
        {
            "class_id": pa.array(synthetic.class_ids, pa.int64()),
            "class_name": pa.array(list(synthetic.class_names), pa.string()),
            "seed": pa.array(np.full(m, synthetic.seed), pa.int64()),
            "feature": pa.FixedSizeListArray.from_arrays(flat, d),
        },
        metadata={"generator_sha256": synthetic.generator_sha256},
    )
    with atomic_folder(folder) as part:
        # At least one shard, so that a folder without rows still has the columns and the metadata.
        for shard, start in enumerate(range(0, max(m, 1), ROWS_PER_SHARD)):
            rows = table.slice(start, ROWS_PER_SHARD)
            write_sealed(rows, part / f"part-{shard:05d}.parquet", compression="zstd")


def load_synthetic(folder: Path) -> SyntheticFeatures:
    """Read every shard of one seed.

    Raises:
        InputError: The folder is missing or empty, its files have another format, or features are not finite.
    """
    shards = sorted(folder.glob("part-*.parquet"))
    if not shards:
        raise InputError(
            f"there are no synthetic features in {folder}: create them with `dvc repro synthesize`, or fetch them with "
            "`dvc pull`"
        )

    tables = [read_sealed(shard, FIX_HINT) for shard in shards]
    with wrap_parser_errors(folder, FIX_HINT):
        table = pa.concat_tables(tables)
        column(table, "class_name", folder)  # checks it; NumPy would drop a NUL at the end of a name
        synthetic = SyntheticFeatures(
            features=list_column(table, "feature", folder),
            class_ids=column(table, "class_id", folder),
            class_names=table["class_name"].to_pylist(),
            seed=int(folder.name.removeprefix("seed=")),
            generator_sha256=table.schema.metadata[b"generator_sha256"].decode(),
        )
        if synthetic.features.dtype != np.float16 or synthetic.class_ids.dtype != np.int64:
            raise InputError(
                f"{folder}: feature has dtype {synthetic.features.dtype} and class_id {synthetic.class_ids.dtype}; "
                "expected float16 and int64"
            )
    if not np.isfinite(synthetic.features).all():
        raise InputError(f"{folder}: features are not finite; run `dvc repro synthesize` again")
    return synthetic
