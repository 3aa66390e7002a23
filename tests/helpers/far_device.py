"""A simulated GPU: it tracks which tensors would be on the device, and detects where the host would wait for it.

Tensors that were sent `to(device)` or created there are tracked by their storage, as is everything computed from them.
While it is `watched`, an operation that reads a value back and a copy that waits raise an error. It does not simulate
time, nor kernels that wait by themselves; on a real GPU `torch.cuda.set_sync_debug_mode` detects those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READING_KERNELS = {"_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2", "unique_consecutive"}
READING_FUNCTIONS = {Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.__array__}
Call = Callable[..., Any]


class WaitingError(AssertionError):
    """Error: the host would have waited for the device."""


class FarDevice(TorchFunctionMode):
    """A context manager around moving the training data to the device and training on it."""

    def __init__(self) -> None:
        super().__init__()
        self.watched = False
        self._storages: dict[int, Any] = {}  # storages, kept so that no address is used twice
        self._kernels = _Kernels(self)

    def __enter__(self) -> FarDevice:
        self._kernels.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._kernels.__exit__(*error)

    def holds(self, tensor: Tensor) -> bool:
        """Return whether the tensor is on the device."""
        return tensor.untyped_storage().data_ptr() in self._storages

    def take(self, values: Any) -> Any:
        """Track every tensor in nested `values` as being on the device."""
        for tensor in tensors(values):
            storage = tensor.untyped_storage()
            self._storages[storage.data_ptr()] = storage
        return values

    def watch(self, watched: bool) -> None:
        """Start or stop raising errors."""
        self.watched = watched

    def refuse(self, what: str) -> None:
        """Raise an error if the device is watched."""
        if self.watched:
            raise WaitingError(f"the host waits for the device: {what}")

    def __torch_function__(self, func: Call, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operands = tensors((args, kwargs))
        on_device = [tensor for tensor in operands if self.holds(tensor)]
        if func is Tensor.to and _device(args[1:], kwargs):
            return self._sent(func(*args, **kwargs), waits=not kwargs.get("non_blocking"))
        if func in READING_FUNCTIONS and on_device:
            self.refuse(func.__name__)
            return func(args[0].clone(), *args[1:], **kwargs) if func is not Tensor.cpu else self._fetched(args[0])
        if on_device and any(tensor.ndim and not self.holds(tensor) for tensor in operands):
            self.refuse(f"{func.__name__} of tensors on host and device")
        if func is Tensor.__getitem__ and on_device and _lists(args[1]):
            self.refuse("indices in a list")
        if func is torch.nn.functional.one_hot and len(args) > 1:
            return self._unwatched(func, *args)  # with a number of classes it reads values only on the CPU
        result = func(*args, **kwargs)
        if _device((), kwargs) and not on_device:
            if func is torch.tensor:
                self.refuse("a tensor of numbers from the host")
            self.take(result)
        return result

    def _sent(self, tensor: Tensor, *, waits: bool) -> Tensor:
        if self.holds(tensor):
            return tensor
        if waits:
            self.refuse("a copy to the device that is not non_blocking")
        return self.take(tensor.detach().clone())

    def _fetched(self, tensor: Tensor) -> Tensor:
        fetched = tensor.detach().clone()
        self._storages.pop(fetched.untyped_storage().data_ptr())
        return fetched

    def _unwatched(self, func: Call, *args: Any) -> Any:
        watched, self.watched = self.watched, False
        result = func(*args)
        self.watched = watched
        return result


class _Kernels(TorchDispatchMode):
    """Dispatch mode for the kernels below Python's functions, those of the backward pass included."""

    def __init__(self, device: FarDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, device = func.overloadpacket.__name__, self._device
        on_device = any(device.holds(tensor) for tensor in tensors((args, kwargs)))
        if on_device and (
            name in READING_KERNELS
            or (name == "index" and any(tensor.dtype == torch.bool for tensor in tensors(args[1])))
        ):
            device.refuse(name)
        result = func(*args, **(kwargs or {}))
        return device.take(result) if on_device else result


def tensors(values: Any) -> list[Tensor]:
    """Return every tensor in nested values."""
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _device(args: Iterable[Any], kwargs: dict[str, Any]) -> bool:
    """Return whether a call names the device; a call for the host has the string "cpu", as torch's optimizers have."""
    return any(isinstance(one, torch.device) for one in (*args, kwargs.get("device")))


def _lists(index: Any) -> bool:
    return any(isinstance(one, list) for one in (index if isinstance(index, tuple) else (index,)))
