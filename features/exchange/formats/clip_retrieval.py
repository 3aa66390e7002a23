"""clip-retrieval's folder: `img_emb/img_emb_<part>.npy` and `metadata/metadata_<part>.parquet`, a row an image.

Layout: `clip_retrieval/clip_inference/writer.py`. The column `image_path` gives the ids; `--key labels=<column>` says
which column of the metadata is the label, `--rows` brings labels from elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from features.errors import InputError, raise_all
from features.exchange.formats.base import REMEDY, FeatureFile, Format, block_of, names_in_file
from features.formats.parquet import column, read_table
from features.formats.untrusted import wrap_parser_errors


class ClipRetrieval(Format):
    """The parts of a folder, in the order of their names."""

    def files(self, source: Path) -> list[Path]:
        """Every part's arrays and metadata, in turn."""
        arrays = sorted(source.glob("**/img_emb_*.npy"))
        tables = {path.stem.removeprefix("metadata_"): path for path in source.glob("**/metadata_*.parquet")}
        parts = {path.stem.removeprefix("img_emb_"): path for path in arrays}
        raise_all(
            [
                f"part {part} has no {'metadata' if part in parts else 'img_emb'}"
                for part in sorted({*parts} ^ {*tables})
            ],
            f"{source} is no whole folder of clip-retrieval; run it with enable_metadata, or mend the copy",
        )
        return [path for part, array in parts.items() for path in (array, tables[part])]

    def read(self, source: Path, keys: Mapping[str, str]) -> FeatureFile:
        """Read every part."""
        files = self.files(source)
        called = {"ids": "image_path", **keys}
        if "features" in called:
            raise InputError("--key features has no use for clip-retrieval's folder: they lie in img_emb_*.npy")
        blocks = []
        for array, metadata in zip(files[::2], files[1::2], strict=True):
            with wrap_parser_errors(array, REMEDY):
                arrays = {"features": np.load(array, mmap_mode="r", allow_pickle=False)}
            with wrap_parser_errors(metadata, REMEDY):
                table = read_table(metadata, [*names_in_file(called).values()])
                arrays |= {name: column(table, name, metadata) for name in table.column_names}
            blocks.append(block_of(arrays, called, str(metadata), None))
        return FeatureFile(blocks)
