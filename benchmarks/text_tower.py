"""The text tower, forward and backward to four context vectors, and its peak of memory against open_clip's.

`python -m benchmarks text_tower`. At 1,000 names open_clip's pass at 77 tokens does not fit into 24 GB, so both peaks
are those of every fourth name. Times are measured by `training`, whose reference makes the same pass at each step.
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
from benchmarks.measure import Row, own_peak_bytes, peak_bytes
from benchmarks.reference import encode_prompts, full_tokens
from features.text.prompts import class_tokens
from features.text.text_tower import TextTower, load_tower, save_tower

CONTEXT = 4
IN_FOUR = 4


def rows(*, small: bool) -> list[Row]:  # noqa: ARG001 (memory does not vary)
    """The memory of 250 names."""
    with tempfile.TemporaryDirectory() as folder:
        save_tower(text_tower(open_clip_model()), Path(folder) / "tower.safetensors")
        peaks = [peak_bytes("benchmarks.text_tower", *side) for side in ((f"{folder}/tower.safetensors",), ())]
    return [Row.of("peak memory of it, 250 names", *(peak / 1e9 for peak in peaks), unit="GB", at_least=4)]


def pass_of(tower: TextTower, names: list[str]) -> Callable[[], Tensor]:
    """Our pass over these names; gives the context's gradient."""
    tokens = class_tokens(names, context_length=tower.config.context_length, prompt=CONTEXT)
    return lambda: _gradient(lambda context: tower(context, tokens)[0], tower.config.width)


def full_pass_of(model: Any, names: list[str]) -> Callable[[], Tensor]:
    """open_clip's."""
    tokens, width = full_tokens(names, CONTEXT), model.token_embedding.embedding_dim
    return lambda: _gradient(lambda context: encode_prompts(model, context, tokens), width)


def _gradient(encode: Callable[[Tensor], Tensor], width: int) -> Tensor:
    context = (0.02 * torch.randn(1, CONTEXT, width, generator=torch.Generator().manual_seed(0))).requires_grad_()
    encode(context)[:, 0].sum().backward()  # type: ignore[no-untyped-call]
    assert context.grad is not None  # noqa: S101
    return context.grad


def main(tower: str | None = None) -> None:
    """One pass in a process of its own, of a tower in a file or of open_clip's; says how much memory it took."""
    names = imagenet_names()[::IN_FOUR]
    (pass_of(load_tower(Path(tower)), names) if tower else full_pass_of(open_clip_model(), names))()
    print(own_peak_bytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
