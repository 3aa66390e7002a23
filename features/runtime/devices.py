"""Choose the device and the precision of a computation, and how many cores and how much memory it keeps."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from features.errors import InputError

Precision = Literal["float32", "bfloat16", "float16"]
AUTOCAST: dict[Precision, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}

# Parameters of mallopt, from glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8


def pick_device(name: str) -> torch.device:
    """Return the device that `auto`, `cpu` or `cuda` stands for; `auto` takes a GPU if there is one.

    Raises:
        InputError: the name is unknown, or it is `cuda` and torch can use no GPU on this machine. A missing GPU is
            never silently replaced by the CPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"invalid compute.device {name!r}: expected auto, cpu or cuda")
    if name == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if name == "cuda":
        built = torch.version.cuda
        reason = f"torch is built for CUDA {built} but finds no GPU or driver" if built else "torch has no CUDA support"
        raise InputError(
            f"compute.device 'cuda' is not available: {reason}. Set compute.device to auto or cpu, or fix the driver"
        )
    return torch.device("cpu")


@contextmanager
def autocast(device: torch.device, precision: Precision) -> Iterator[None]:
    """Compute in `precision` inside the context, with weights kept in float32."""
    dtype = AUTOCAST.get(precision)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch compute on one core inside the context.

    Meant for short computations: while other programs use the cores, torch's threads spin for seconds waiting for each
    other.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Have the C library keep freed blocks for the next batch, in this whole process and from now on.

    By default glibc returns every large block to the kernel and requests it again, zeroed page by page. The output of a
    convolution is tens of MB, so this took half of the time of LiteCLIP's forward pass (43 -> 21 ms a crop). There is
    one arena because glibc's other arenas cannot hold such blocks. Without glibc this function does nothing.

    Programs call this, not functions of a library: a notebook's allocator is not ours to change.
    """
    if not sys.platform.startswith("linux"):
        return

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        mallopt(M_ARENA_MAX, 1)
