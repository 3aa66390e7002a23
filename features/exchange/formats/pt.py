"""torch's `.pt`, tensors only: a tensor, a dictionary of tensors, or CLIP_benchmark's folder of `features_<split>.pt`.

CLIP_benchmark's linear probe (`clip_benchmark/metrics/linear_probe.py`) keeps these and `targets_<split>.pt`.
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

REMEDY = "save plain tensors with torch.save (torch 1.6 or newer)"
ROWS, TARGETS = "features_{}.pt", "targets_{}.pt"


class Pt(Format):
    """Files of `torch.save`, read with `weights_only`, so that nothing in them can run."""

    def files(self, source: Path) -> list[Path]:
        """The file, or the pairs of files of a folder."""
        if not source.is_dir():
            return [source]
        splits = [split for split in SPLITS if (source / ROWS.format(split)).is_file()]
        return [source / name.format(split) for split in splits for name in (ROWS, TARGETS)]

    def read(self, source: Path, keys: Mapping[str, str]) -> FeatureFile:
        """Read the tensors that `FIELDS` names; a lone tensor is the features."""
        if not source.is_dir():
            arrays = _load(source)
            return FeatureFile([block_of(arrays, keys, str(source), None)])
        splits = [split for split in SPLITS if (source / ROWS.format(split)).is_file()]
        if "test" not in splits:
            raise InputError(
                f"{source} holds no {ROWS.format('test')}. Older CLIP_benchmark calls the test images `val`: "
                "if these are such, rename features_val.pt and targets_val.pt to features_test.pt and targets_test.pt"
            )
        blocks = []
        for split in splits:
            features, labels = (_load(source / name.format(split))["features"] for name in (ROWS, TARGETS))
            blocks.append(block_of({"features": features, "labels": labels}, {}, f"{source}: {split}", split))
        return FeatureFile(blocks)


def _load(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a file by name; a lone one is called `features`.

    `mmap` is for safety: a storage is then a slice of the file, whatever length the file claims for it.
    """
    with wrap_parser_errors(path, REMEDY):
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        named = found if isinstance(found, dict) else {"features": found}
        tensors = {str(name): value for name, value in named.items() if isinstance(value, torch.Tensor)}
        if not tensors:
            raise InputError(f"{path} holds no tensor; {REMEDY}")
        return {name: _array(tensor, path) for name, tensor in tensors.items()}


def _array(tensor: torch.Tensor, path: Path) -> NDArray[Any]:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
        raise InputError(f"{path} holds a tensor of {tensor.dtype} and layout {tensor.layout}; {REMEDY}")
    if tensor.numel() * tensor.element_size() > path.stat().st_size:  # a stride of 0 can claim any length
        raise InputError(f"{path} holds a tensor of shape {tuple(tensor.shape)}, more than the file has; {REMEDY}")
    plain = tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor.detach()  # NumPy has no bfloat16
    values: NDArray[Any] = plain.numpy()
    return values
