"""open_clip, imported without torch's compiler, which makes up most of the time that its import takes.

open_clip imports torchvision and timm. The one imports the compiler for a function that one operation for object
detection calls, the other to mark some methods of one model as not to be compiled: two thirds of the import, says
`python -X importtime -c "import open_clip"`. Here it is imported when one of them is called, which is never for CLIP.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch._compile import _disable_dynamo  # what torch itself marks with: like `disable`, but imports nothing yet

COMPILER = "torch._dynamo.utils"


def import_open_clip() -> Any:
    """The package `open_clip`."""
    if not {"open_clip", COMPILER} & sys.modules.keys():
        disable = torch.compiler.disable
        sys.modules[COMPILER] = _Later(COMPILER)
        torch.compiler.disable = _disable_dynamo  # type: ignore[assignment]
        try:
            import_module("torchvision.ops")
            import_module("timm")
        finally:
            torch.compiler.disable = disable
            del sys.modules[COMPILER]
    return import_module("open_clip")


class _Later(ModuleType):
    """A module that is imported as soon as one of its functions is called."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def function(*args: Any) -> Any:
            return getattr(import_module(COMPILER), name)(*args)

        return function
