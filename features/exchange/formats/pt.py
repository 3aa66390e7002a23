"""torch's `.pt` with tensors only: a tensor, a dictionary of tensors, or CLIP_benchmark's `features_<split>.pt`.

CLIP_benchmark's linear probe (`clip_benchmark/metrics/linear_probe.py`) writes a folder with these and
`targets_<split>.pt`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from features.datasets.base import SPLITS
from features.errors import InputError
from features.exchange.formats.base import FeatureFile, Format, block_of
from features.formats.untrusted import wrap_parser_errors

FIX_HINT = "save plain tensors with torch.save (torch 1.6 or newer)"
FEATURES, TARGETS = "features_{}.pt", "targets_{}.pt"


class Pt(Format):
    """Files of `torch.save`, read with `weights_only`, so that nothing in them can execute."""

    def files(self, source: Path) -> list[Path]:
        """Return the file, or the pairs of files of a folder."""
        if not source.is_dir():
            return [source]
        return [source / name.format(split) for split in _splits(source) for name in (FEATURES, TARGETS)]

    def read(self, source: Path, keys: Mapping[str, str]) -> FeatureFile:
        """Read the tensors that `FIELDS` names; a single tensor without a name is the features."""
        if not source.is_dir():
            return FeatureFile([block_of(load_tensors(source), keys, str(source), None)])

        splits = _splits(source)
        if "test" not in splits:
            raise InputError(
                f"{source} has no {FEATURES.format('test')}. Older CLIP_benchmark calls the test images `val`: in that "
                "case, rename features_val.pt and targets_val.pt to features_test.pt and targets_test.pt"
            )
        blocks = []
        for split in splits:
            features = load_tensors(source / FEATURES.format(split))["features"]
            labels = load_tensors(source / TARGETS.format(split))["features"]
            blocks.append(block_of({"features": features, "labels": labels}, {}, f"{source}: {split}", split))
        return FeatureFile(blocks)


def _splits(folder: Path) -> list[Any]:
    return [split for split in SPLITS if (folder / FEATURES.format(split)).is_file()]


def load_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a file by name; a single one without a name is called `features`."""
    with wrap_parser_errors(path, FIX_HINT):
        # mmap is for safety: a storage is then a slice of the file, whatever length the file claims for it.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        by_name = content if isinstance(content, dict) else {"features": content}
        tensors = {str(name): value for name, value in by_name.items() if isinstance(value, torch.Tensor)}
        if not tensors:
            raise InputError(f"{path} has no tensor; {FIX_HINT}")
        return {name: _array(tensor, path) for name, tensor in tensors.items()}


def _array(tensor: torch.Tensor, path: Path) -> NDArray[Any]:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
        raise InputError(f"{path} has a tensor of dtype {tensor.dtype} and layout {tensor.layout}; {FIX_HINT}")
    # A stride of 0 can claim any shape.
    if tensor.numel() * tensor.element_size() > path.stat().st_size:
        raise InputError(f"{path} has a tensor of shape {tuple(tensor.shape)}, larger than the file; {FIX_HINT}")

    # NumPy has no bfloat16.
    plain = tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor.detach()
    values: NDArray[Any] = plain.numpy()
    return values
