"""clip-retrieval's folder: `img_emb/img_emb_<part>.npy` and `metadata/metadata_<part>.parquet`, one row per image.

Layout: `clip_retrieval/clip_inference/writer.py`. The column `image_path` gives the ids. Labels come from a column of
the metadata (`--key labels=<column>`) or from another file (`--rows`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from features.errors import InputError, raise_all
from features.exchange.formats.base import FIX_HINT, FeatureFile, Format, block_of, names_in_file
from features.formats.parquet import column, read_table
from features.formats.untrusted import wrap_parser_errors


class ClipRetrieval(Format):
    """A folder of parts, read in the order of their names."""

    def files(self, source: Path) -> list[Path]:
        """Return the array and the metadata of each part, alternately."""
        arrays = {path.stem.removeprefix("img_emb_"): path for path in sorted(source.glob("**/img_emb_*.npy"))}
        tables = {path.stem.removeprefix("metadata_"): path for path in source.glob("**/metadata_*.parquet")}

        problems = [
            f"part {part} has no {'metadata' if part in arrays else 'img_emb'} file"
            for part in sorted({*arrays} ^ {*tables})
        ]
        raise_all(
            problems, f"{source} is incomplete; run clip-retrieval with enable_metadata, or copy the folder again"
        )
        return [path for part, array in arrays.items() for path in (array, tables[part])]

    def read(self, source: Path, keys: Mapping[str, str]) -> FeatureFile:
        """Read every part."""
        files = self.files(source)
        keys = {"ids": "image_path", **keys}
        if "features" in keys:
            raise InputError(f"--key features does not apply to {source}: clip-retrieval's are in img_emb_*.npy")

        blocks = []
        for array, metadata in zip(files[::2], files[1::2], strict=True):
            with wrap_parser_errors(array, FIX_HINT):
                arrays = {"features": np.load(array, mmap_mode="r", allow_pickle=False)}
            with wrap_parser_errors(metadata, FIX_HINT):
                table = read_table(metadata, [*names_in_file(keys).values()])
                arrays |= {name: column(table, name, metadata) for name in table.column_names}
            blocks.append(block_of(arrays, keys, str(metadata), None))
        return FeatureFile(blocks)
