"""Devices, precision and threads: the requested ones are used, or there is an error."""

from __future__ import annotations

import pytest
import torch

from features.errors import InputError
from features.runtime.cores import cores
from features.runtime.devices import autocast, keep_freed_memory, one_thread, pick_device

CPU = torch.device("cpu")


def test_auto_takes_a_gpu_when_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert pick_device("auto") == torch.device(expected)
        assert pick_device("cpu") == CPU


def test_a_missing_gpu_is_never_replaced_by_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"'cuda'.*CUDA.*compute\.device"):
        pick_device("cuda")


def test_unknown_device_names_are_errors() -> None:
    with pytest.raises(InputError, match=r"compute\.device 'gpu'.*auto.*cpu.*cuda"):
        pick_device("gpu")


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)]
)
def test_autocast_keeps_weights_in_float32(precision: str, dtype: torch.dtype) -> None:
    weight = torch.ones(2, 2)
    with autocast(CPU, precision):  # type: ignore[arg-type]
        assert (weight @ weight).dtype == dtype
    assert (weight @ weight).dtype == weight.dtype == torch.float32


def test_keep_freed_memory_can_be_called_twice() -> None:
    keep_freed_memory()
    keep_freed_memory()
    assert cores() >= 1


def test_one_thread_ends_with_its_context() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
