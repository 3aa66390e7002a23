"""Import open_clip without torch's compiler, which takes most of the time of the import.

open_clip imports torchvision and timm. torchvision imports the compiler for a function that one operation of object
detection calls. timm imports it to mark some methods of one model as not to be compiled. Together this is two thirds of
the import (`python -X importtime -c "import open_clip"`): 7.0 s of CPU time instead of 2.4 s. Here the compiler is
imported when one of its functions is called, which never happens for CLIP.

open_clip also imports transformers if it is installed, another 2.8 s of CPU time, for text towers of Hugging Face.
`import_hugging_face` imports it when a model has one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module, reload
from types import ModuleType
from typing import Any

import torch

from features.errors import InputError

COMPILER = "torch._dynamo.utils"
TRANSFORMERS = "transformers"
INSTALL = "text towers of Hugging Face need transformers: pip install -e '.[transformers]'"


def import_open_clip() -> Any:
    """Return the package `open_clip`; the first call imports it.

    A torch without the private `_disable_dynamo` gets a plain import, which is slower and otherwise the same.
    """
    if {"open_clip", COMPILER} & sys.modules.keys():
        return import_module("open_clip")
    with _hidden(TRANSFORMERS):
        return _without_compiler()


def import_hugging_face() -> Any:
    """Return open_clip's adapter of Hugging Face's text towers, `open_clip.hf_model`, with transformers.

    Raises:
        InputError: transformers is not installed.
    """
    import_open_clip()
    adapter = import_module("open_clip.hf_model")
    if adapter.transformers is None:
        adapter = reload(adapter)  # open_clip's models, which have the old classes, see the new names of the module
    if adapter.transformers is None:
        raise InputError(INSTALL)
    return adapter


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Let an import of a module fail inside the block, unless it is imported already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


def _without_compiler() -> Any:
    """Import open_clip with a stand-in for torch's compiler."""
    try:
        # What torch marks its own functions with: `disable`, which imports the compiler when a function is called.
        from torch._compile import _disable_dynamo  # noqa: PLC0415 (private: a later torch may lack it)
    except ImportError:
        return import_module("open_clip")

    disable = torch.compiler.disable
    sys.modules[COMPILER] = _LazyModule(COMPILER)
    torch.compiler.disable = _disable_dynamo  # type: ignore[assignment]
    try:
        import_module("torchvision.ops")
        import_module("timm")
    finally:
        torch.compiler.disable = disable
        del sys.modules[COMPILER]
    return import_module("open_clip")


class _LazyModule(ModuleType):
    """A module that is imported when one of its functions is called."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        # Python asks a module for names such as __path__; answering them would make it look like a package.
        if name.startswith("__"):
            raise AttributeError(name)

        def function(*args: Any) -> Any:
            return getattr(import_module(COMPILER), name)(*args)

        return function
