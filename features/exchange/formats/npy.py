"""NumPy's `.npy`: the features alone, (N, D) or (N, K, D); `--rows` brings labels, splits and ids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from features.exchange.formats.base import REMEDY, FeatureFile, Format, block_of
from features.formats.untrusted import wrap_parser_errors


class Npy(Format):
    """One array."""

    def read(self, source: Path, keys: Mapping[str, str]) -> FeatureFile:
        """Map the file; numpy refuses one that is shorter than its header says."""
        with wrap_parser_errors(source, REMEDY):
            values = np.load(source, mmap_mode="r", allow_pickle=False)
        return FeatureFile([block_of({"features": values}, keys, str(source), None)])
