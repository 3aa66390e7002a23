"""Named tensors on disk (safetensors), with facts about them, and nothing that runs."""

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
from features.formats.untrusted import wrap_parser_errors

CPU = torch.device("cpu")


def save_tensors(tensors: Mapping[str, Tensor], path: Path, **facts: str) -> None:
    """Write tensors and facts about them; the same ones give the same bytes.

    The facts are one JSON text, for safetensors writes several metadata keys in no fixed order.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_file(path) as part:
        part.write_bytes(save(plain, metadata={"facts": json.dumps(facts, sort_keys=True)}))


def read_tensors(path: Path, device: torch.device = CPU) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and the facts about them.

    Raises:
        InputError: there is no such file, or it is damaged.
    """
    with (
        wrap_parser_errors(path, "`dvc repro` makes it, `dvc pull` brings it"),
        safe_open(path, "pt", device=str(device)) as file,
    ):
        names = file.keys()
        facts = json.loads((file.metadata() or {}).get("facts", "{}"))
        if not isinstance(facts, dict) or not all(isinstance(value, str) for value in facts.values()):
            raise InputError(f"{path}: its facts are no texts by name, as this project writes them")
        return {name: file.get_tensor(name) for name in names}, facts


def load_tensors(path: Path, device: torch.device, **facts: str) -> dict[str, Tensor]:
    """Read tensors that were written with these facts.

    Raises:
        InputError: there is no such file, it is damaged, or it was written with other facts.
    """
    tensors, found = read_tensors(path, device)
    others = {name: found.get(name) for name, value in facts.items() if found.get(name) != value}
    if others:
        raise InputError(f"{path} was written for {others}, not for {facts}; run `dvc repro`")
    return tensors
