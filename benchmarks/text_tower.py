"""Peak memory of the text tower, forward and backward to four context vectors, against open_clip's.

`python -m benchmarks text_tower`. With 1,000 names open_clip's pass at 77 tokens does not fit into 24 GB, so both sides
take every fourth name. `training` measures the times, because its reference makes the same pass in each step.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.material import imagenet_names, open_clip_model, text_tower
from benchmarks.measure import Row
from benchmarks.memory import own_peak_bytes, peak_bytes
from benchmarks.reference import encode_prompts, full_tokens
from features.text.prompts import class_tokens
from features.text.text_tower import TextTower
from features.text.tower_file import load_tower, save_tower

CONTEXT = 4
EVERY = 4  # names


def rows(*, small: bool) -> list[Row]:  # noqa: ARG001 (memory does not vary)
    """Return the row of the peak memory with 250 names."""
    with tempfile.TemporaryDirectory() as folder:
        save_tower(text_tower(open_clip_model()), Path(folder) / "tower.safetensors")
        peaks = [peak_bytes("benchmarks.text_tower", *side) for side in ((f"{folder}/tower.safetensors",), ())]
    return [Row.of("peak memory of the text tower, 250 names", *(peak / 1e9 for peak in peaks), unit="GB", at_least=4)]


def pass_of(tower: TextTower, names: list[str]) -> Callable[[], Tensor]:
    """Return this project's pass over the names, which returns the gradient of the context."""
    tokens = class_tokens(names, context_length=tower.config.context_length, prompt=CONTEXT)
    return lambda: _gradient(lambda context: tower(context, tokens)[0], tower.config.width)


def full_pass_of(model: Any, names: list[str]) -> Callable[[], Tensor]:
    """Return the same pass of open_clip."""
    tokens, width = full_tokens(names, CONTEXT), model.token_embedding.embedding_dim
    return lambda: _gradient(lambda context: encode_prompts(model, context, tokens), width)


def _gradient(encode: Callable[[Tensor], Tensor], width: int) -> Tensor:
    context = (0.02 * torch.randn(1, CONTEXT, width, generator=torch.Generator().manual_seed(0))).requires_grad_()
    encode(context)[:, 0].sum().backward()  # type: ignore[no-untyped-call]
    assert context.grad is not None  # noqa: S101
    return context.grad


def main(tower: str | None = None) -> None:
    """Make one pass, of a tower in a file or else of open_clip's, and print the peak memory of the process."""
    names = imagenet_names()[::EVERY]
    (pass_of(load_tower(Path(tower)), names) if tower else full_pass_of(open_clip_model(), names))()
    print(own_peak_bytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
