"""Building blocks of generators and critics: small networks, their first weights, latents, and the check at the end."""

from __future__ import annotations

from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from features.errors import InputError

M = TypeVar("M", bound=nn.Module)

INITIAL_STD = 0.02  # of weights and prompts (the official code of SHIP, of f-CLSWGAN and of its descendants)


def mlp(*widths: int, leak: float = 0.0) -> nn.Sequential:
    """Return linear layers from widths[0] to widths[-1], with (leaky) ReLU between them and none after the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.LeakyReLU(leak) if leak else nn.ReLU(), nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers[1:])  # without the activation before the first layer


def init_weights(model: M, rng: torch.Generator) -> M:
    """Initialise every trainable parameter, on the CPU: biases with 0, all others from N(0, 0.02^2).

    Parameters are drawn in the order of `named_parameters`, so the order in which a module defines its layers is part
    of what a seed gives.
    """
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            nn.init.zeros_(parameter)
        elif parameter.requires_grad:
            nn.init.normal_(parameter, std=INITIAL_STD, generator=rng)
    return model


def init_xavier(model: M, rng: torch.Generator) -> M:
    """Initialise every linear layer, on the CPU: Xavier's uniform weights (Glorot and Bengio 2010) and biases 0."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=rng)
            nn.init.zeros_(module.bias)
    return model


def draw_latents(count: int, size: int, rng: torch.Generator, device: torch.device) -> Tensor:
    """Draw latents (count, size) from N(0, I), on the CPU, and send them to the device."""
    return torch.randn(count, size, generator=rng).to(device, non_blocking=True)


def freeze_trained(model: M, name: str) -> M:
    """Return the trained model, frozen.

    Args:
        model: the trained model.
        name: the generator's name in params.yaml, for the error.

    Raises:
        InputError: a parameter is not finite.
    """
    if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        raise InputError(f"generators.{name}: training diverged (weights are NaN or infinite); lower `learning_rate`")
    return model.requires_grad_(False)
