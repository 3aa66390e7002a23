"""Where tensors are computed, in which precision, and with whose memory."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from features.errors import InputError

Precision = Literal["float32", "bfloat16", "float16"]
AUTOCAST: dict[Precision, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}

# mallopt's names for its settings, from glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8


def pick_device(wanted: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` stands for; `auto` takes a GPU when there is one.

    Raises:
        InputError: `cuda` is asked for and this machine has none that torch can use, or the name is another.
    """
    if wanted not in ("auto", "cpu", "cuda"):
        raise InputError(f"device {wanted!r} is none of auto, cpu, cuda: mend compute.device in params.yaml")
    if wanted == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if wanted == "cuda":
        built = torch.version.cuda
        why = f"torch is built for CUDA {built} and sees no GPU or driver" if built else "torch is built without CUDA"
        raise InputError(
            f"device 'cuda' is asked for, but {why}: set compute.device to auto or cpu, or mend the driver"
        )
    return torch.device("cpu")


@contextmanager
def autocast(device: torch.device, precision: Precision) -> Iterator[None]:
    """Compute in `precision` inside the context, with weights kept in float32."""
    dtype = AUTOCAST.get(precision)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        yield


def cores() -> int:
    """How many cores this process may use, which in a container is fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch compute on one core inside the context.

    For what is short: where other programs have the cores, torch's threads spin for seconds to wait for one another.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Have the C library keep freed blocks for the next batch.

    By default glibc hands every large block back to the kernel and gets it anew, zeroed page by page. A convolution's
    output is tens of MB, so that took half of the time of LiteCLIP's forward pass (43 -> 21 ms a crop). One arena,
    because the others of glibc cannot hold such blocks. Elsewhere than on glibc this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        mallopt(M_ARENA_MAX, 1)
