"""Read and write named tensors with metadata, as safetensors: nothing in such a file can execute."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from features.errors import InputError
from features.formats.files import atomic_file
from features.formats.seal import BLANK, check_seal, sealed
from features.formats.seal import KEY as DIGEST
from features.formats.untrusted import wrap_parser_errors

CPU = torch.device("cpu")
KEY = "facts"  # of the file's metadata; part of the bytes that existing files have
FIX_HINT = "create it with `dvc repro`, or fetch it with `dvc pull`"


def save_tensors(tensors: Mapping[str, Tensor], path: Path, **metadata: str) -> None:
    """Write tensors and metadata; the same content gives the same bytes."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One JSON text under one key, because safetensors writes several metadata keys in no fixed order.
    facts = json.dumps({**metadata, DIGEST: BLANK}, sort_keys=True)
    content = sealed(save(plain, metadata={KEY: facts}))
    with atomic_file(path) as part:
        part.write_bytes(content)


def read_tensors(
    path: Path, device: torch.device = CPU, *, own: bool = True
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and their metadata.

    Args:
        path: the file.
        device: where the tensors will be.
        own: whether this project wrote the file, so that it holds a digest, which is compared.

    Raises:
        InputError: The file does not exist or is damaged.
    """
    if own:
        check_seal(path, FIX_HINT)
    with wrap_parser_errors(path, FIX_HINT), safe_open(path, "pt", device=str(device)) as file:
        names = file.keys()
        metadata = json.loads((file.metadata() or {}).get(KEY, "{}"))
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise InputError(f"{path}: the metadata {KEY!r} must be an object of texts; {FIX_HINT}")
        metadata.pop(DIGEST, None)  # files of other programs have none
        return {name: file.get_tensor(name) for name in names}, metadata


def load_tensors(path: Path, device: torch.device, **metadata: str) -> dict[str, Tensor]:
    """Read tensors, and check that they were written with these values of the metadata.

    Raises:
        InputError: The file does not exist, is damaged, or was written with other metadata.
    """
    tensors, stored = read_tensors(path, device)
    different = {name: stored.get(name) for name, value in metadata.items() if stored.get(name) != value}
    if different:
        raise InputError(f"{path} was written for {different}, but {metadata} is needed; run `dvc repro`")
    return tensors
