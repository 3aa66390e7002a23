"""Random streams: a seed and a purpose select a stream, so that the draws of one stage never shift those of another."""

from __future__ import annotations

import hashlib

import torch


def stream(seed: int, *purpose: str) -> torch.Generator:
    """Return the generator of a seed and a purpose.

    It is on the CPU whatever the device of the work, so that a seed draws the same numbers everywhere. The purpose is
    part of the seed: another label gives other results.
    """
    digest = hashlib.sha256("/".join((str(seed), *purpose)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") & (2**63 - 1))
