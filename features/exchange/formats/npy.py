"""NumPy's `.npy`: only the features, (N, D) or (N, K, D); `--rows` adds labels, splits and ids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from features.exchange.formats.base import FIX_HINT, FeatureFile, Format, block_of
from features.formats.untrusted import wrap_parser_errors


class Npy(Format):
    """A file with one array."""

    def read(self, source: Path, keys: Mapping[str, str]) -> FeatureFile:
        """Map the file into memory; numpy rejects a file that is shorter than its header claims."""
        with wrap_parser_errors(source, FIX_HINT):
            values = np.load(source, mmap_mode="r", allow_pickle=False)
        return FeatureFile([block_of({"features": values}, keys, str(source), None)])
