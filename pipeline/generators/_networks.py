"""Small networks that generators and critics are made of, and the drawing of their first weights."""

from __future__ import annotations

from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn

from features.errors import InputError

M = TypeVar("M", bound=nn.Module)

INITIAL_STD = 0.02  # of weights and prompts (the official codes of SHIP, f-CLSWGAN and their descendants)


def mlp(*widths: int, leak: float = 0.0) -> nn.Sequential:
    """Linear layers from widths[0] to widths[-1] with (leaky) ReLU between them and none after the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.LeakyReLU(leak) if leak else nn.ReLU(), nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers[1:])


def draw_weights(model: M, rng: torch.Generator) -> M:
    """Give every parameter that learns its first value, on the CPU: biases 0, all others N(0, 0.02^2)."""
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            nn.init.zeros_(parameter)
        elif parameter.requires_grad:
            nn.init.normal_(parameter, std=INITIAL_STD, generator=rng)
    return model


def finished(model: M, name: str) -> M:
    """The trained model, frozen.

    Raises:
        InputError: a parameter is not finite; `name` is the generator's.
    """
    if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        raise InputError(f"generators.{name}: training diverged; lower `learning_rate`")
    return model.requires_grad_(False)
