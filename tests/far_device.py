"""A GPU that is not there: which tensors would lie on it, and where the host would have to wait for it.

Tensors that were sent `to(device)`, or made there, are remembered by their storage, and so is all that is computed from
them. While it is `watched`, whatever needs a value back is refused, and so is a copy that waits. It says nothing of
time, and nothing of kernels that wait by themselves: `torch.cuda.set_sync_debug_mode` does, where there is a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ASKS = {"_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2", "unique_consecutive"}
READS = {Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.__array__}
Call = Callable[..., Any]


class WaitingError(AssertionError):
    """The host would have waited."""


class FarDevice(TorchFunctionMode):
    """Use as a context, around the sending of what is trained on and the training."""

    def __init__(self) -> None:
        super().__init__()
        self.watched = False
        self._there: dict[int, Any] = {}  # storages, kept so that no address is used twice
        self._kernels = _Kernels(self)

    def __enter__(self) -> FarDevice:
        self._kernels.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._kernels.__exit__(*error)

    def holds(self, tensor: Tensor) -> bool:
        """Whether the tensor lies there."""
        return tensor.untyped_storage().data_ptr() in self._there

    def take(self, found: Any) -> Any:
        """Remember every tensor in `found` as lying there."""
        for tensor in tensors(found):
            storage = tensor.untyped_storage()
            self._there[storage.data_ptr()] = storage
        return found

    def watch(self, watched: bool) -> None:
        """Begin or end to refuse."""
        self.watched = watched

    def refuse(self, what: str) -> None:
        """Fail if this is while it is watched."""
        if self.watched:
            raise WaitingError(f"the host waits for the device: {what}")

    def __torch_function__(self, func: Call, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = tensors((args, kwargs))
        there = [one for one in given if self.holds(one)]
        if func is Tensor.to and _device(args[1:], kwargs):
            return self._sent(func(*args, **kwargs), waits=not kwargs.get("non_blocking"))
        if func in READS and there:
            self.refuse(func.__name__)
            return func(args[0].clone(), *args[1:], **kwargs) if func is not Tensor.cpu else self._fetched(args[0])
        if there and any(one.ndim and not self.holds(one) for one in given):
            self.refuse(f"{func.__name__} of tensors here and there")
        if func is Tensor.__getitem__ and there and _lists(args[1]):
            self.refuse("places in a list")
        if func is torch.nn.functional.one_hot and len(args) > 1:
            return self._unwatched(func, *args)  # with the number of classes given it asks on the CPU alone
        made = func(*args, **kwargs)
        if _device((), kwargs) and not there:
            if func is torch.tensor:
                self.refuse("a tensor of the host's numbers")
            self.take(made)
        return made

    def _sent(self, tensor: Tensor, *, waits: bool) -> Tensor:
        if self.holds(tensor):
            return tensor
        if waits:
            self.refuse("a copy to it that is not non_blocking")
        return self.take(tensor.detach().clone())

    def _fetched(self, tensor: Tensor) -> Tensor:
        fetched = tensor.detach().clone()
        self._there.pop(fetched.untyped_storage().data_ptr())
        return fetched

    def _unwatched(self, func: Call, *args: Any) -> Any:
        watched, self.watched = self.watched, False
        made = func(*args)
        self.watched = watched
        return made


class _Kernels(TorchDispatchMode):
    """What runs below Python's functions, on the way back too."""

    def __init__(self, device: FarDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, device = func.overloadpacket.__name__, self._device
        there = any(device.holds(one) for one in tensors((args, kwargs)))
        if there and (name in ASKS or (name == "index" and any(one.dtype == torch.bool for one in tensors(args[1])))):
            device.refuse(name)
        made = func(*args, **(kwargs or {}))
        return device.take(made) if there else made


def tensors(found: Any) -> list[Tensor]:
    """Every tensor in nested arguments."""
    return [one for one in tree_leaves(found) if isinstance(one, Tensor)]


def _device(args: Iterable[Any], kwargs: dict[str, Any]) -> bool:
    """Whether a call names the device; one that means the host alone says "cpu", as torch's optimizers do."""
    return any(isinstance(one, torch.device) for one in (*args, kwargs.get("device")))


def _lists(index: Any) -> bool:
    return any(isinstance(one, list) for one in (index if isinstance(index, tuple) else (index,)))
