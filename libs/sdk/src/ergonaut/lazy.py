"""Names of a package that are loaded when they are first used, as PEP 562 allows."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package: looks a name up in its module, by `homes`, and keeps it in the package.

    >>> lazy_names("ergonaut", {"joules": "ergonaut.units"})("parts")
    Traceback (most recent call last):
    AttributeError: module 'ergonaut' has no attribute 'parts'
    """

    def found(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return found
