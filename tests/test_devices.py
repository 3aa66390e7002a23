"""Where tensors are computed: what is asked for is what is taken, or an error."""

from __future__ import annotations

import pytest
import torch

from features.errors import InputError
from features.runtime.devices import autocast, cores, keep_freed_memory, one_thread, pick_device

CPU = torch.device("cpu")


def test_auto_takes_a_gpu_when_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, taken in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert pick_device("auto") == torch.device(taken)
        assert pick_device("cpu") == CPU


def test_cuda_that_is_not_there_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"'cuda' is asked for, but .*set compute.device to auto or cpu"):
        pick_device("cuda")


def test_other_names_are_refused() -> None:
    with pytest.raises(InputError, match="'gpu' is none of auto, cpu, cuda"):
        pick_device("gpu")


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)]
)
def test_autocast_keeps_masters_in_float32(precision: str, dtype: torch.dtype) -> None:
    weight = torch.ones(2, 2)
    with autocast(CPU, precision):  # type: ignore[arg-type]
        assert (weight @ weight).dtype == dtype
    assert (weight @ weight).dtype == weight.dtype == torch.float32


def test_memory_can_be_kept_more_than_once() -> None:
    keep_freed_memory()
    keep_freed_memory()
    assert cores() >= 1


def test_one_thread_is_for_the_context_alone() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
