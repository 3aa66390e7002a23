"""Gradients: every trained method moves all of its own parameters, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from small_task import ALL, CLASSES, TOWER, TRAIN, fit_anew, fit_data
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

# Shapes: D = 32 dimensions, W = 16 of a token, 4 seen classes, 32 images, M = 4 vectors of a context.
OWN: dict[str, list[tuple[int, ...]]] = {
    "clap": [(4, 32)],  # the weights of the seen classes
    "clip_adapter": [(1, 8, 32), (1, 32, 8)],  # both layers, of one ratio
    "cocoop": [(4, 16), (2, 32), (2,), (16, 2), (16,)],  # the context and the Meta-Net
    "coop": [(1, 4, 16)],  # the context
    "kgcoop": [(1, 4, 16)],
    "plot": [(2, 4, 16)],  # the prompts
    "proda": [(4, 4, 16)],
    "taskres": [(4, 32)],  # the residuals of the seen classes
    "tcp": [(4, 16), (8, 32), (8,), (64, 8), (64,)],  # the shared context and the net
    "tip_adapter_f": [(32, 32)],  # the keys
    "vpt": [(4, 16), (2, 16, 33), (2, 16, 17), (2, 16, 17)],  # the context, and the layers of both nets
}


@pytest.fixture
def stepped() -> Iterator[dict[int, tuple[Tensor, bool]]]:
    """Yield every parameter that an optimizer steps, by its id, and whether a gradient other than 0 reached it."""
    parameters: dict[int, tuple[Tensor, bool]] = {}

    def record(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            reached = p.grad is not None and bool(p.grad.any())
            parameters[id(p)] = (p, reached or parameters.get(id(p), (p, False))[1])

    hook = register_optimizer_step_pre_hook(record)
    yield parameters
    hook.remove()


@pytest.mark.parametrize("name", ALL)
def test_gradients_reach_exactly_the_parameters_of_the_method(
    name: str, stepped: dict[int, tuple[Tensor, bool]]
) -> None:
    fit_anew(name, fit_data())
    assert sorted(tuple(p.shape) for p, _ in stepped.values()) == sorted(OWN.get(name, []))
    assert all(reached for _, reached in stepped.values())
    inputs = [*TOWER.parameters(), CLASSES.text_features, TRAIN.features]
    assert not {p.data_ptr() for p, _ in stepped.values()} & {tensor.data_ptr() for tensor in inputs}
    assert all(tensor.grad is None for tensor in inputs)
