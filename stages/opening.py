"""Inputs that several stages load: the device, and the text tower on it."""

from __future__ import annotations

import torch

from features.runtime.devices import pick_device
from features.text.text_tower import TextTower
from features.text.tower_file import load_tower
from pipeline.artifacts.paths import EncoderPaths
from pipeline.config.params import Params


def compute_device(params: Params) -> torch.device:
    """Return the device that `compute.device` names."""
    return pick_device(params.compute.device)


def load_text_tower(params: Params, device: torch.device) -> TextTower:
    """Load the text tower that stage `text_tower` wrote; it computes in `text_tower.precision` of params.yaml."""
    tower = load_tower(EncoderPaths(params.artifacts).text_tower).to(device)
    tower.precision = params.text_tower.precision
    return tower
