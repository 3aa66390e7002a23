"""Find a class by the name of its file: `methods/coop.py` is the method `coop`, imported only when it is needed."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import TypeVar

from features.errors import InputError, nearest

T = TypeVar("T")


def names(package: ModuleType) -> list[str]:
    """Return every name that `find` accepts: the modules of `package` except `base` and those with a leading `_`."""
    modules = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in modules if name != "base" and not name.startswith("_"))


def find(package: ModuleType, name: str, base: type[T]) -> type[T]:
    """Return the one subclass of `base` that the module `<package>/<name>.py` defines.

    Raises:
        InputError: There is no such file; the message lists the known names.
        TypeError: The file defines no such class, or several.
    """
    known = names(package)
    if name not in known:
        folder = package.__name__.replace(".", "/")
        raise InputError(f"there is no file {folder}/{name}.py for {name!r}; {nearest(name, known)}")

    module = importlib.import_module(f"{package.__name__}.{name}")
    # Only classes defined in the module itself count, not those that it imports, such as a shared base.
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise TypeError(f"{module.__name__} must define exactly one {base.__name__}, not {len(classes)}")
    return classes[0]
