"""Randomness: a seed and a purpose decide a stream, so that one stage's draws never shift another's."""

from __future__ import annotations

import hashlib

import torch


def stream(seed: int, *purpose: str) -> torch.Generator:
    """A generator on the CPU, whatever the device of the work, so that a seed draws the same everywhere."""
    digest = hashlib.sha256("/".join((str(seed), *purpose)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") & (2**63 - 1))
